"""S-IDPG: a prompt from a frozen encoding of the sentence (Wu et al. 2022, arXiv 2204.04497)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import Tensor, nn

from bench.methods.base import Attachment, Method, Recipe
from bench.methods.phm import Phm
from bench.methods.prompt_encoders import Insert, sentence
from bench.models.backbones import Backbone
from bench.models.stack import Flow, Rows, Stack, Stream
from bench.models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


class Idpg(Method):
    """`p = W2 gelu(W1 M(x) + b1) + b2` before layer 0; M is a second pass of the same frozen backbone over the text.

    M runs as the backbone does, with its dropout in training. Settings of CSerxy/IDPG's scripts (m = 16, t = 5; PHM:
    n = 16). Its prompts stand behind `<s>`, ours before it. The learning rate is one of its grid.
    """

    source = "Wu et al. 2022, arXiv 2204.04497"
    heads = ("linear",)
    kind: Literal["idpg"] = "idpg"
    generator: Literal["dnn", "phm"] = "dnn"
    length: int = Field(default=5, ge=1)
    bottleneck: int = Field(default=16, ge=1)
    phm_dimension: int = Field(default=16, ge=1)  # n; PHM only
    recipe: Recipe = Recipe(
        learning_rate=1e-3, schedule="constant", warmup=0, weight_decay=0.1, betas=(0.9, 0.98), epsilon=1e-6
    )

    def check(self, backbone: Backbone) -> str | None:
        if self.generator == "dnn" or self.bottleneck % self.phm_dimension == 0:
            return None
        return f"bottleneck is {self.bottleneck}, expected a multiple of phm_dimension {self.phm_dimension}"

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        return Attachment(0, nn.ModuleList([Insert(Generator(self, stack), 0)]))


class Generator(nn.Module):
    """[B, P, H] from the text before layer 0."""

    def __init__(self, method: Idpg, stack: Stack):
        super().__init__()
        self.frozen = (stack,)  # in a tuple: it is no part of this module
        sizes = [(stack.hidden, method.bottleneck), (method.bottleneck, method.length * stack.hidden)]
        phm = method.generator == "phm"
        maps = [Phm(*size, method.phm_dimension) if phm else nn.Linear(*size) for size in sizes]
        self.generate = nn.Sequential(maps[0], nn.GELU(), maps[1], nn.Unflatten(1, (method.length, -1)))

    def forward(self, stream: Stream) -> Tensor:
        (stack,) = self.frozen
        encoded = stack.walk(stream, ())
        return self.generate(stack.final_norm(sentence(encoded, stack.causal)))

    def count(self, products: Products, flow: Flow) -> Rows:
        encoded = products.walk(flow, ())
        read = products.final_norm(Rows(flow.examples, products.hidden, encoded.tracked))
        made = products.chain(list(self.generate)[:3], read)
        return Rows(made.length * made.features // products.hidden, products.hidden, made.tracked)
