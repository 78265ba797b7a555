"""Parameterised hypercomplex multiplication: a linear map as a sum of Kronecker products (arXiv 2102.08597)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.models.stack import Rows
from bench.models.stack.operation_counter import shape

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


class Phm(nn.Module):
    """`x W + b` with `W = sum_i A_i (x) B_i`: A [n, n, n], B [n, in/n, out/n], or B_i = left_i right_i of rank r.

    W is never made: the two small maps act one after the other. `rule` is A, where layers share one; `scale` is the
    standard deviation it begins with. B begins as Glorot uniform, n matrices or 2 n factors; the adapters library takes
    Glorot normal, which has the same variance, and Compacter's authors a gain of sqrt(2).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        n: int,
        rank: int | None = None,
        rule: nn.Parameter | None = None,
        scale: float = 0.1,
    ):
        super().__init__()
        for size in (inputs, outputs):
            if size % n:
                raise ValueError(f"phm: {size} is no multiple of the dimension {n}")
        self.n, self.outputs = n, outputs
        self.rule = nn.Parameter(torch.randn(n, n, n) * scale) if rule is None else rule
        self.bias = nn.Parameter(torch.zeros(outputs))
        between = outputs // n if rank is None else rank
        self.left = nn.Parameter(_glorot(n, inputs // n, between))
        self.right = None if rank is None else nn.Parameter(_glorot(n, rank, outputs // n))

    def forward(self, states: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        parts = states.unflatten(-1, (self.n, -1)).unsqueeze(-3)  # [..., 1, n, in/n]
        made = parts @ self.left  # [..., n, n, out/n]: each of the n parts by each B_i
        if self.right is not None:
            made = made @ self.right
        return torch.einsum("...ijq,ijk->...kq", made, self.rule).flatten(-2) + self.bias

    def count(self, products: Products, rows: Rows) -> Rows:
        """Each of the n parts of a row by each B_i, then a sum over both with A."""
        tally, n = products.tally, self.n
        between = shape(self.left)[2]
        tracked = tally.product(rows.length * n * rows.features * between, rows.tracked, tally.trains(self.left))
        if self.right is not None:
            size = rows.length * n * between * self.outputs
            tracked = tally.product(size, tracked, tally.trains(self.right))
        tracked = tally.product(rows.length * n**2 * self.outputs, tracked, tally.trains(self.rule))
        return Rows(rows.length, self.outputs, tracked or (tally.recording and tally.trains(self.bias)))


def _glorot(*shape: int) -> Tensor:
    """[n, ., .]: n matrices, each from its own Glorot uniform."""
    made = torch.empty(*shape)
    for one in made:
        nn.init.xavier_uniform_(one)
    return made
