"""A regularizer on one model for one run, and the passes it makes."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.data.templates import Templater
from bench.kernels.dispatch import Kernels, resolve
from bench.methods.tuned_model import TunedModel
from bench.models.forward_passes import BatchView, ForwardPass, Perturbation
from bench.models.stack import Batch, CachedPrefix
from bench.models.stack.stack import UNLIMITED
from bench.models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from bench.regularizers.base import TwoViews


@dataclass(frozen=True)
class Run:
    """What a regularizer is put on."""

    tuned: TunedModel  # the bare module, not the engine
    vocabulary: Vocabulary
    form: str = "auto"  # of the kernels
    max_length: int = UNLIMITED  # tokens of an example
    templater: Templater | None = None  # None: there are no texts, only tokens
    texts: Sequence[tuple[str, ...]] = ()  # of the training examples

    @functools.cached_property
    def kernels(self) -> Kernels:
        """Resolved once, and not for what uses none."""
        return resolve(self.form, self.tuned.stack.word_embeddings.weight.device)


class Perturber(ABC):
    """A regularizer on one model for one run."""

    def __init__(self, run: Run):
        self.run, self.tuned, self.vocabulary = run, run.tuned, run.vocabulary

    @property
    def kernels(self) -> Kernels:
        return self.run.kernels

    @property
    def form(self) -> str | None:
        """Of the kernels, where any was used."""
        return self.kernels.form if "kernels" in vars(self.run) else None

    @abstractmethod
    def passes(self, batch: Batch, prefix: CachedPrefix | None = None) -> Iterator[ForwardPass]:
        """What `batch` is trained on. Each pass is taken after the backward of the one before.

        `prefix`: what is known of the batch, as the feature cache has it.
        """


def clean_and_perturbed(
    settings: TwoViews,
    batch: Batch,
    words: Batch,
    perturbation: Perturbation | None = None,
    prefix: CachedPrefix | None = None,
) -> ForwardPass:
    """Both views in one pass; `words` is the batch with the perturbed view's words."""
    perturbed = BatchView(words, settings.weight, settings.loss, perturbation)
    clean = (BatchView(batch, settings.clean_weight),) if settings.clean_weight else ()
    return ForwardPass((*clean, perturbed), prefix)
