"""Parameterised hypercomplex multiplication: a linear map as a sum of Kronecker products (arXiv 2102.08597)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Phm(nn.Module):
    """`x W + b` with `W = sum_i A_i (x) B_i`: A [n, n, n], B [n, in/n, out/n], or B_i = left_i right_i of rank r.

    W is never made: the two small maps act one after the other. `rule` is A, where layers share one.
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
        shapes = [(inputs // n, outputs // n)] if rank is None else [(inputs // n, rank), (rank, outputs // n)]
        self.factors = nn.ParameterList(torch.empty(n, *shape) for shape in shapes)
        for factor in self.factors:
            for one in factor:
                nn.init.xavier_uniform_(one)

    def forward(self, states: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        made = states.unflatten(-1, (self.n, -1)).unsqueeze(-3)  # [..., 1, n, in/n]
        for factor in self.factors:
            made = made @ factor  # [..., n, n, r] and [..., n, n, out/n]: each of the n parts by each B_i
        return torch.einsum("...ijq,ijk->...kq", made, self.rule).flatten(-2) + self.bias
