"""From what was seen on few ranks to what holds on many, and with another micro-batch.

At any one moment the bytes of an owner are `a + b / ranks + c * examples`: what every rank has, its share of what is
partitioned, and what grows with the micro-batch. Three dry steps give a, b and c of each moment; the peak is the
largest of them, and it may be another moment on many ranks than on few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.checks.plan.timeline import Moment


@dataclass(frozen=True)
class Seen:
    """One phase of a cell in dry steps: on `ranks` and `more_ranks`, and on `ranks` with twice as many examples."""

    examples: int  # the micro-batch
    ranks: int
    moments: Sequence[Moment]
    doubled: Sequence[Moment]
    more_ranks: int = 0  # 0: `ranks` are those asked for
    more: Sequence[Moment] = ()

    def bytes(self, ranks: int, examples: int) -> list[dict[str, float]]:
        """By moment and owner."""
        share, grown = self._share(ranks), examples / self.examples - 1
        return [
            {
                owner: size + share * (size - more.get(owner, 0)) + grown * (doubled.get(owner, 0) - size)
                for owner, size in moment.items()
            }
            for moment, doubled, more in zip(self.moments, self.doubled, self.more or self.moments, strict=True)
        ]

    def _share(self, ranks: int) -> float:
        """Of what goes from `ranks` to `more_ranks`, how much goes from `ranks` to those asked for; negative."""
        if not self.more_ranks:
            return 0.0
        return (1 / ranks - 1 / self.ranks) / (1 / self.ranks - 1 / self.more_ranks)

    def peak(self, ranks: int, examples: int, elsewhere: frozenset[str] = frozenset()) -> dict[str, int]:
        """Bytes by owner at the peak of the device; `elsewhere`: owners that are not on it."""
        found = self.bytes(ranks, examples)
        highest = max(found, key=lambda moment: sum(size for owner, size in moment.items() if owner not in elsewhere))
        return {owner: max(0, round(size)) for owner, size in highest.items()}

    def most_of(self, owners: frozenset[str], ranks: int, examples: int) -> dict[str, int]:
        """Bytes of these owners when they have most."""
        found = self.bytes(ranks, examples)
        highest = max(found, key=lambda moment: sum(moment.get(owner, 0) for owner in owners))
        return {owner: max(0, round(highest.get(owner, 0))) for owner in sorted(owners)}

    def most_examples(self, ranks: int, budget: int, elsewhere: frozenset[str] = frozenset()) -> int:
        """The largest micro-batch whose peak is within `budget` bytes; 0: none is."""

        def needed(examples: int) -> int:
            peak = self.peak(ranks, examples, elsewhere)
            return sum(size for owner, size in peak.items() if owner not in elsewhere)

        if needed(1) > budget:
            return 0
        low, high = 1, 2
        while needed(high) <= budget and high < 2**20:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if needed(middle) <= budget else (low, middle)
        return low
