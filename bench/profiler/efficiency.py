"""What the ranks' shares of the measured window come to: operations and energy of a step, and MFU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from bench.models.stack.operation_counter import Operations


class Share(NamedTuple):
    """One rank's, over the window."""

    operations: Operations | None
    joules: float | None
    peak: float | None  # operations per second that its device could do


class Efficiency(NamedTuple):
    """As in Cost; None where one rank's share of it is unknown."""

    flops: float | None
    mfu: float | None
    joules: float | None


T = TypeVar("T")


def efficiency(shares: Sequence[Share], steps: int, seconds: float) -> Efficiency:
    """`steps` were measured in `seconds`."""
    if not steps or not seconds:
        return Efficiency(None, None, None)
    operations, joules = _known([one.operations for one in shares]), _known([one.joules for one in shares])
    peaks = _known([one.peak for one in shares])
    flops = None if operations is None else sum(sum(one) for one in operations) / steps
    mfu = None
    if operations is not None and peaks is not None:
        mfu = sum(one.own for one in operations) / (seconds * sum(peaks))
    return Efficiency(flops, mfu, None if joules is None else sum(joules) / steps)


def _known(values: Sequence[T | None]) -> list[T] | None:
    found = [value for value in values if value is not None]
    return found if len(found) == len(values) else None
