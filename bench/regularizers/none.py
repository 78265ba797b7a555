"""No perturbation: the clean loss alone."""

from typing import Literal

from bench.regularizers.base import Regularizer


class NoRegularizer(Regularizer):
    kind: Literal["none"] = "none"
    space: None = None
