"""No perturbation: the clean loss alone."""

from typing import Literal

from bench.perturb.base import Regularizer, View
from bench.stack import Batch
from bench.tuned import Tuned


class NoRegularizer(Regularizer):
    kind: Literal["none"] = "none"

    def view(self, tuned: Tuned, batch: Batch) -> View | None:
        return None
