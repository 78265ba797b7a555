"""What a probe found, and when two gradients count as the same; see the head of the package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.settings import Settings

OWN_ERRORS = 2  # how far from float64, in distances that plain PyTorch in the same precision has for this tensor
TYPICAL_ERRORS = 4  # and in its root mean square over all tensors: on one it may be near by luck
EPSILONS = 4  # and so many eps of that precision
FLOOR = 0.01  # of the largest tensor's norm: smaller ones count as this large

Finding = Literal["exact", "within rounding", "wrong", "unsupported"]


class Verdict(Settings):
    finding: Finding
    worst: str | None = None  # the tensor that came closest to, or went furthest over, what is allowed
    error: float | None = None  # its distance from float64, relative; None: not a finite number
    allowed: float | None = None
    phase: str | None = None  # reference, setup or gradients, where it was unsupported
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


def compare(engine: Measured, plain: Measured, exact: Measured, dtype: torch.dtype) -> Verdict:
    """`engine` and `plain` in `dtype`, `exact` in float64."""
    mine, theirs, truth = engine.tensors(), plain.tensors(), exact.tensors()
    assert mine.keys() == theirs.keys() == truth.keys(), mine.keys() ^ truth.keys()
    largest = max(_norm(value) for name, value in truth.items() if name != "the loss")
    norms = {name: _norm(value) for name, value in truth.items()}
    scales = {name: (own if name == "the loss" else max(own, FLOOR * largest)) or 1.0 for name, own in norms.items()}
    errors, plain_errors = (
        {name: _distance(made[name], value) / scales[name] for name, value in truth.items()} for made in (mine, theirs)
    )
    typical = math.hypot(*plain_errors.values()) / len(plain_errors) ** 0.5
    rounding = TYPICAL_ERRORS * typical + EPSILONS * torch.finfo(dtype).eps
    rows: list[tuple[float, str, float, float]] = []
    for name, error in errors.items():
        allowed = OWN_ERRORS * plain_errors[name] + rounding
        rows.append((error / allowed if math.isfinite(error) else math.inf, name, error, allowed))
    ratio, name, error, allowed = max(rows)
    same = all(_distance(mine[name], theirs[name]) == 0 for name in truth)
    return Verdict(
        finding="exact" if same else "within rounding" if ratio <= 1 else "wrong",
        worst=name,
        error=error if math.isfinite(error) else None,
        allowed=allowed,
    )


def _norm(value: Tensor | None) -> float:
    return 0.0 if value is None else value.norm().item()


def _distance(one: Tensor | None, other: Tensor | None) -> float:
    """The L2 norm of the difference, infinite where it is no number; no gradient is a gradient of zero."""
    difference = _norm(one) if other is None else _norm(other if one is None else one - other)
    return difference if math.isfinite(difference) else math.inf
