"""Parameters that ZeRO-3 has partitioned, gathered outside of its engine."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from typing import Any

from torch import Tensor


@contextlib.contextmanager
def whole(parameters: Iterable[Tensor]) -> Generator[None, None, None]:
    """ZeRO-3 may have partitioned `parameters` already: gathers them, to be read only. A collective call."""
    found: set[Any] = {p for p in parameters if hasattr(p, "ds_id")}
    partitioned = sorted(found, key=lambda p: p.ds_id)  # in one order on all ranks
    if partitioned:
        partitioned[0].all_gather(partitioned)
    try:
        yield
    finally:
        if partitioned:
            partitioned[0].partition(partitioned)
