"""No perturbation: the clean loss alone."""

from collections.abc import Iterator
from typing import Literal

from bench.perturb.base import Perturber, Regularizer, Run
from bench.stack import Batch
from bench.views import Pass, View


class NoRegularizer(Regularizer):
    kind: Literal["none"] = "none"
    space: None = None

    def on(self, run: Run) -> Perturber:
        return Clean(run)


class Clean(Perturber):
    def passes(self, batch: Batch) -> Iterator[Pass]:
        yield Pass((View(batch),))
