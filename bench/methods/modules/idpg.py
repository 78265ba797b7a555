"""The prompt generator of S-IDPG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from bench.methods.modules.phm import Phm
from bench.methods.modules.prompt_encoders import sentence
from bench.models.stack import Flow, Rows, Stack, Stream

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


class Generator(nn.Module):
    """[B, P, H] from the text before layer 0."""

    def __init__(self, stack: Stack, length: int, bottleneck: int, phm_dimension: int | None):
        """`phm_dimension`: of PHM layers in place of linear ones."""
        super().__init__()
        self.frozen = (stack,)  # in a tuple: it is no part of this module
        sizes = [(stack.hidden, bottleneck), (bottleneck, length * stack.hidden)]
        maps = [Phm(*size, phm_dimension) if phm_dimension else nn.Linear(*size) for size in sizes]
        self.generate = nn.Sequential(maps[0], nn.GELU(), maps[1], nn.Unflatten(1, (length, -1)))

    def forward(self, stream: Stream) -> Tensor:
        (stack,) = self.frozen
        encoded = stack.walk(stream, ())
        return self.generate(stack.final_norm(sentence(encoded, stack.causal)))

    def count(self, products: Products, flow: Flow) -> Rows:
        encoded = products.walk(flow, ())
        read = products.final_norm(Rows(flow.examples, products.hidden, encoded.tracked))
        made = products.chain(list(self.generate)[:3], read)
        return Rows(made.length * made.features // products.hidden, products.hidden, made.tracked)
