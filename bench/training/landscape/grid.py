"""The points of a surface, and the scalars that sum it up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bench.records.record import Surface


def points(radius: float, grid: int) -> Tensor:
    """[grid * grid, 2] float64: offsets along the first direction, which varies slowest, and the second."""
    line = (torch.arange(grid, dtype=torch.float64) - grid // 2) * (2 * radius / (grid - 1))  # 0 in the middle
    return torch.cartesian_prod(line, line)


def surface(
    losses: Sequence[float], radius: float, slope: float | None = None, hessian: Tensor | None = None
) -> Surface:
    """Of the losses at `points`; slope and Hessian [2, 2] where they are known better than by differences."""
    grid = math.isqrt(len(losses))
    loss = torch.tensor(losses, dtype=torch.float64).view(grid, grid)
    first, second, differences = derivatives(loss, 2 * radius / (grid - 1))
    return Surface(
        radius=radius,
        loss=tuple(tuple(_known(float(f"{value:.6g}")) for value in row) for row in loss.tolist()),
        rise=_known((loss.max() - loss[grid // 2, grid // 2]).item() / radius),
        slope=_known(math.hypot(first, second) if slope is None else slope),
        curvature=_known(_largest_eigenvalue(differences if hessian is None else hessian)),
    )


def derivatives(loss: Tensor, step: float) -> tuple[float, float, Tensor]:
    """Along both directions, and the Hessian [2, 2], at the middle of `loss` [grid, grid]: central differences."""
    middle = len(loss) // 2
    near = loss[middle - 1 : middle + 2, middle - 1 : middle + 2]
    one, difference, second = torch.tensor([[0, 1, 0], [-0.5, 0, 0.5], [1, -2, 1]], dtype=loss.dtype)

    def along(row: Tensor, column: Tensor) -> Tensor:
        return (near * torch.outer(row, column)).sum()

    a, b = along(difference, one) / step, along(one, difference) / step
    mixed = along(difference, difference)
    hessian = torch.stack([along(second, one), mixed, mixed, along(one, second)]).view(2, 2) / step**2
    return a.item(), b.item(), hessian


def _largest_eigenvalue(hessian: Tensor) -> float:
    return torch.linalg.eigvalsh(hessian).max().item() if hessian.isfinite().all() else math.nan


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
