"""What a probe found, and when two gradients count as the same; see the head of the package."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.core.settings import Settings

OWN_ERRORS = 2  # how far from float64, in distances that plain PyTorch in the same precision has for this tensor
TYPICAL_ERRORS = 4  # and in its root mean square over all tensors: on one it may be near by luck
EPSILONS = 4  # and so many eps of that precision
TELLING = 0.25  # of a rank's share: where rounding may be larger, a rank that is left out would pass
UNCHECKED = "model"  # the phase of what concerns the probe's model only: it says nothing of the cell's
FLOOR = 0.01  # of the largest tensor's norm: smaller ones count as this large

Finding = Literal["exact", "within rounding", "wrong", "unsupported"]


class Verdict(Settings):
    finding: Finding
    worst: str | None = None  # the tensor that came closest to, or went furthest over, what is allowed
    error: float | None = None  # its distance from float64, relative; None: not a finite number
    allowed: float | None = None
    phase: str | None = None  # where it was unsupported: model, reference, setup, gradients, comparison or run
    exception: str | None = None
    seconds: float | None = None  # of setup and gradients

    @property
    def why(self) -> str:
        """One line of a finding that is not good."""
        if self.finding == "unsupported":
            return f"unsupported ({self.phase}): {(self.exception or '').strip().splitlines()[0]}"
        error = "not finite" if self.error is None else f"off by {self.error:.2g}"
        return f"wrong gradients: {self.worst} is {error}, allowed {self.allowed:.2g}"


@dataclass(frozen=True)
class Measured:
    """The loss, and the gradient of every trainable; None where it has none."""

    loss: Tensor
    gradients: Mapping[str, Tensor | None]

    def tensors(self) -> dict[str, Tensor | None]:
        """In float64 on the CPU."""
        named = {"the loss": self.loss, **self.gradients}
        return {name: None if value is None else value.detach().double().cpu() for name, value in named.items()}


def same(one: Measured, other: Measured) -> bool:
    """The same bits."""
    mine, theirs = one.tensors(), other.tensors()
    return all(_distance(mine[name], theirs[name]) == 0 for name in mine)


def compare(engine: Measured, plain: Measured, exact: Measured, dtype: torch.dtype, ranks: int = 1) -> Verdict:
    """`engine` and `plain` in `dtype`, `exact` in float64.

    Two measures, each held against plain PyTorch's own: the distance, and the size along the true gradient, in which
    roundings cancel and a rank's share that is missing does not.
    """
    mine, theirs, truth = engine.tensors(), plain.tensors(), exact.tensors()
    assert mine.keys() == theirs.keys() == truth.keys(), mine.keys() ^ truth.keys()
    floor = FLOOR * max(_norm(value) for name, value in truth.items() if name != "the loss")
    norms = {name: _norm(value) for name, value in truth.items()}
    scales = {name: (own if name == "the loss" else max(own, floor)) or 1.0 for name, own in norms.items()}
    distances = _held(
        {name: _distance(mine[name], value) / scales[name] for name, value in truth.items()},
        {name: _distance(theirs[name], value) / scales[name] for name, value in truth.items()},
        dtype,
    )
    large = [name for name, own in norms.items() if own >= floor and own > 0]
    sizes = _held(
        {name: _size_off(mine[name], truth[name]) for name in large},
        {name: _size_off(theirs[name], truth[name]) for name in large},
        dtype,
    )
    over, worst = max((distances[0], sizes[0]), key=lambda row: row.ratio), distances[0]
    if same(engine, plain):
        finding: Finding = "exact"
    elif over.ratio > 1:
        finding, worst = "wrong", over
    elif (blurred := statistics.median(row.allowed for row in sizes)) > TELLING / ranks:
        told = f"roundings of half of all gradients may be {blurred:.2g}, as large as what a rank is missed by"
        return Verdict(finding="unsupported", phase="comparison", exception=told)
    else:
        finding = "within rounding"
    error = worst.error if math.isfinite(worst.error) else None
    return Verdict(finding=finding, worst=worst.name, error=error, allowed=worst.allowed)


@dataclass(frozen=True)
class _Row:
    ratio: float  # of the error to what is allowed
    name: str
    error: float
    allowed: float


def _held(errors: dict[str, float], plain_errors: dict[str, float], dtype: torch.dtype) -> list[_Row]:
    """Each error against what plain PyTorch's allow, the worst first."""
    typical = math.hypot(*plain_errors.values()) / len(plain_errors) ** 0.5
    rounding = TYPICAL_ERRORS * typical + EPSILONS * torch.finfo(dtype).eps
    rows: list[_Row] = []
    for name, error in errors.items():
        allowed = OWN_ERRORS * plain_errors[name] + rounding
        rows.append(_Row(error / allowed if math.isfinite(error) else math.inf, name, error, allowed))
    return sorted(rows, key=lambda row: -row.ratio)


def _size_off(value: Tensor | None, truth: Tensor | None) -> float:
    """How far the size along `truth` is from its own, relative to it; 1 where there is nothing."""
    if value is None or truth is None:
        return 1.0
    off = abs(((value * truth).sum() / (truth * truth).sum()).item() - 1)
    return off if math.isfinite(off) else math.inf


def _norm(value: Tensor | None) -> float:
    return 0.0 if value is None else value.norm().item()


def _distance(one: Tensor | None, other: Tensor | None) -> float:
    """The L2 norm of the difference, infinite where it is no number; no gradient is a gradient of zero."""
    difference = _norm(one) if other is None else _norm(other if one is None else one - other)
    return difference if math.isfinite(difference) else math.inf
