"""Examples rewritten once an epoch, all of them together, and kept until the next."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

from bench.data.batches import collate
from bench.data.templates import Encoded
from bench.models.forward_passes import ForwardPass
from bench.models.stack import Batch, CachedPrefix
from bench.regularizers.base import TwoViews
from bench.regularizers.perturbers.base import Perturber, Run, clean_and_perturbed
from bench.regularizers.perturbers.noise_text import widened


class Rewriting(Perturber):
    def __init__(self, settings: TwoViews, run: Run):
        super().__init__(run)
        self.settings = settings
        self.rewritten: dict[int, Encoded] = {}  # by the example's index

    def begin(self) -> None:
        """Before the examples are rewritten anew."""

    @abstractmethod
    def rewrite(self, batch: Batch) -> dict[int, Encoded]:
        """The rewritten examples of `batch`. A collective call under ZeRO-3."""

    def keep(self, rewritten: Mapping[int, Encoded]) -> None:
        self.rewritten.update(rewritten)

    def passes(self, batch: Batch, prefix: CachedPrefix | None = None) -> Iterator[ForwardPass]:
        pad, index = self.vocabulary.pad, batch.example_ids.tolist()
        examples = [self.rewritten[i] for i in index]
        words = collate(examples, pad, batch.noise_seeds.tolist(), index, batch.ids.device)
        width = max(words.ids.shape[1], batch.ids.shape[1])
        yield clean_and_perturbed(self.settings, widened(batch, width, pad), widened(words, width, pad))
