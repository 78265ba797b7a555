"""Which step's weights are reported, and when training ends because dev does not gain."""

from __future__ import annotations

from torch import Tensor


class Selection:
    """Of the evaluations so far. Every rank sees the same scores, and so decides the same."""

    def __init__(self, best_dev: bool, patience: int | None):
        """`best_dev`: of the first of the best scores, else of the last step. `patience`: as in a cell."""
        self.best_dev, self.patience = best_dev, patience
        self.dev = 0.0  # at `step`
        self.step = self.last = 0  # the selected one, and that of the last evaluation
        self.state: dict[str, Tensor] = {}  # the weights of the selected step, where they may not be the last's
        self._without_gain = 0

    def takes(self, step: int, dev: float) -> bool:
        """Whether the weights of `step` are to be put into `state`."""
        first, self.last = self.last == 0, step
        if self.best_dev and not first and dev <= self.dev:
            self._without_gain += 1
            return False
        self.dev, self.step, self._without_gain = dev, step, 0
        return self.best_dev

    @property
    def over(self) -> bool:
        """Whether training ends here."""
        return self.patience is not None and self._without_gain >= self.patience

    def certain(self, steps: int, every: int) -> int:
        """Of `steps` with an evaluation after each `every`, how many run whatever dev says."""
        return steps if self.patience is None else min(steps, (self.patience + 1) * every)
