"""The clean loss alone."""

from __future__ import annotations

from collections.abc import Iterator

from bench.models.forward_passes import BatchView, ForwardPass
from bench.models.stack import Batch, CachedPrefix
from bench.regularizers.perturbers.base import Perturber


class Clean(Perturber):
    def passes(self, batch: Batch, prefix: CachedPrefix | None = None) -> Iterator[ForwardPass]:
        yield ForwardPass((BatchView(batch),), prefix)
