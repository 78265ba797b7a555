"""PTP (arXiv 2305.02423): train on the clean and on a perturbed view of the same batch.

A regularizer gives a view of a batch and does not know which method it is put on.
"""

from bench.perturb.attack import Attack
from bench.perturb.base import Regularizer, View
from bench.perturb.noise import Noise
from bench.perturb.none import NoRegularizer

__all__ = ["REGULARIZERS", "Regularizer", "View"]

REGULARIZERS: dict[str, type[Regularizer]] = {
    regularizer.model_fields["kind"].get_default(): regularizer for regularizer in (NoRegularizer, Noise, Attack)
}
