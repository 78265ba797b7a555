"""Figures with the digits that a reader of the page can use; None, which is not known, stays so."""

from __future__ import annotations

import math

MIB = 2**20


def short(value: float | None, digits: int = 5) -> float | None:
    """So many significant digits, whole where there is no more."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return _whole(rounded)


def percent(share: float | None) -> float | None:
    """To a hundredth."""
    return None if share is None or not math.isfinite(share) else _whole(round(100 * share, 2))


def mebibytes(size: int | None) -> float | None:
    return short(None if size is None else size / MIB)


def _whole(value: float) -> float:
    return int(value) if value.is_integer() else value
