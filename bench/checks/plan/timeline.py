"""Peaks by moment, so that what was seen on few ranks tells what holds on many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from bench.profiler.live_tensors import LiveTensors

Moment = Mapping[str, int]  # bytes by owner when most was alive, between two ticks
PASSING = "passing gradients"  # of a backward, on the device also where their sums are offloaded


class Timeline(LiveTensors):
    """Ticks at every attention, forward and backward: the same moments on any number of ranks and any batch."""

    def __init__(self, *arguments: Any, **options: Any):
        self.moments: list[Moment] = []
        self._highest: Moment = {}
        self._top = 0
        super().__init__(*arguments, **options)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "softmax" in func.__name__ or "scaled_dot_product" in func.__name__:
            self._tick()
        return super().__torch_dispatch__(func, types, args, kwargs)

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._tick()

    def claim(self, tensors: Iterable[Tensor], owner: str) -> None:
        super().assign_category(tensors, PASSING if owner == "gradients" else owner)

    def grown(self) -> None:
        super().grown()
        if self.current > self._top:
            self._top, self._highest = self.current, dict(self.totals)

    def _tick(self) -> None:
        self.moments.append(self._highest)
        self._top, self._highest = self.current, dict(self.totals)
