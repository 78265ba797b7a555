"""No perturbation: the clean loss alone."""

from collections.abc import Iterator
from typing import Literal

from bench.models.forward_passes import BatchView, ForwardPass
from bench.models.stack import Batch
from bench.regularizers.base import Perturber, Regularizer, Run


class NoRegularizer(Regularizer):
    kind: Literal["none"] = "none"
    space: None = None

    def on(self, run: Run) -> Perturber:
        return Clean(run)


class Clean(Perturber):
    def passes(self, batch: Batch) -> Iterator[ForwardPass]:
        yield ForwardPass((BatchView(batch),))
