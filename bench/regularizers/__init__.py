"""PTP (arXiv 2305.02423): train on the clean and on a perturbed view of the same batch.

A regularizer gives views of a batch and does not know which method it is put on.
"""

from collections.abc import Mapping
from typing import Any

from bench.regularizers.attack import Attack
from bench.regularizers.attack_text import TextAttack
from bench.regularizers.base import Regularizer
from bench.regularizers.noise import Noise
from bench.regularizers.noise_text import TextNoise
from bench.regularizers.none import NoRegularizer

__all__ = ["REGULARIZERS", "SPACES", "Regularizer", "class_of", "kinds_in"]

REGULARIZERS: tuple[type[Regularizer], ...] = (NoRegularizer, Noise, TextNoise, Attack, TextAttack)
SPACES = ("embeddings", "text")


def kinds_in(space: str) -> dict[str, type[Regularizer]]:
    """The regularizers by their kind; those of any space are in each."""
    return {_default(one, "kind"): one for one in REGULARIZERS if _default(one, "space") in (None, space)}


def class_of(content: Mapping[str, Any]) -> type[Regularizer]:
    """The class that dumped `content`."""
    return kinds_in(content["space"] or SPACES[0])[content["kind"]]


def _default(regularizer: type[Regularizer], field: str) -> Any:
    return regularizer.model_fields[field].get_default()
