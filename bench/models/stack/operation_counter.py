"""Counts floating-point operations of matrix products from shapes alone; nothing is computed.

A product of m by n by k is 2 m n k operations, and its gradient with respect to each operand as many again, where that
operand is tracked: a gradient goes back through it. So a frozen weight costs no gradient, and neither does an input
below which nothing trains.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


class Rows(NamedTuple):
    """A tensor [length, features]."""

    length: int
    features: int
    tracked: bool = False

    def __or__(self, other: Rows) -> Rows:
        """With another added to it."""
        return self._replace(tracked=self.tracked or other.tracked)


@dataclass(frozen=True)
class Flow:
    """The shapes of a Stream."""

    examples: int  # B
    tokens: int  # S
    prompt_tokens: int = 0  # P, of S
    prefix_tokens: int = 0  # keys and values in front of every layer's own
    tracked: bool = False  # the states
    prefix_tracked: bool = False


class Operations(NamedTuple):
    own: int = 0  # the model's: forward and backward
    recomputed: int = 0  # again in the backward, where layers keep their input only

    def __add__(self, other: Operations) -> Operations:  # pyright: ignore[reportIncompatibleMethodOverride] -- numbers
        return Operations(self.own + other.own, self.recomputed + other.recomputed)

    def __mul__(self, times: int) -> Operations:  # pyright: ignore[reportIncompatibleMethodOverride] -- as above
        return Operations(self.own * times, self.recomputed * times)


class OperationCounter:
    """`weights`: whether the backward gives the gradients of weights; without, it is an attack's, in eval mode."""

    def __init__(self, weights: bool = True):
        self.weights, self.recording = weights, True
        self.forward, self.backward, self.recomputed = 0, 0, 0
        self._needed = 0  # of `forward`, what came before the last thing kept for the backward

    @property
    def operations(self) -> Operations:
        return Operations(self.forward + self.backward, self.recomputed)

    def trains(self, *parameters: Tensor | None) -> bool:
        return self.weights and any(p is not None and p.requires_grad for p in parameters)

    def product(self, size: int, *tracked: bool) -> bool:
        """One of `size` multiplications and additions; whether what it gives is tracked."""
        recorded = self.recording and any(tracked)
        if recorded:
            self.kept()
            self.backward += 2 * size * sum(tracked)
        self.forward += 2 * size
        return recorded

    def kept(self) -> None:
        """What has been computed so far is kept for the backward, or what was made of it."""
        self._needed = self.forward

    @contextlib.contextmanager
    def unrecorded(self) -> Generator[None, None, None]:
        """No gradient goes back through what is inside."""
        recording, self.recording = self.recording, False
        yield
        self.recording = recording

    @contextlib.contextmanager
    def checkpoint(self, active: bool) -> Generator[None, None, None]:
        """What is inside is computed again in the backward, up to the last thing that it keeps (as torch does it)."""
        start = self._needed = self.forward
        yield
        if active and self.recording:
            self.recomputed += self._needed - start


def shape(parameter: Tensor) -> tuple[int, ...]:
    """Also where ZeRO-3 has partitioned it."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def own_parameters(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))
