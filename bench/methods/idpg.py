"""S-IDPG: a prompt from a frozen encoding of the sentence (Wu et al. 2022, arXiv 2204.04497)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bench.methods.base import Method, Recipe
from bench.models.backbones import Backbone

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


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
        from bench.methods.modules.attachment import Attachment
        from bench.methods.modules.idpg import Generator
        from bench.methods.modules.prompt_encoders import Insert

        phm = self.phm_dimension if self.generator == "phm" else None
        return Attachment(0, [Insert(Generator(stack, self.length, self.bottleneck, phm), 0)])
