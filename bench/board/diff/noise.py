"""The noise of a quantity in a row, measured in the first set of records and its repeats.

Where cells were run again, it is the spread within cells over runs. Else the second's cells are the repeats, each of
that with its seed: the spread over seeds of what changed, divided by sqrt(2). Of n seeds, the second's mean may be
worse than the first's by no more than

    t(1 - a, degrees of freedom) * deviation * sqrt(sum over seeds of (1 + 1 / runs)) / n

with the first's number of runs of each seed: the one-sided prediction bound of the mean of n new values (Hahn and
Meeker 1991, Statistical Intervals). Without further runs that is the t test paired by seed.

A score's deviation is taken to be at least one test example, since equal scores do not show that there is no noise.
Noise is taken to be normal and each cell's own. What slows all cells of a run alike, such as a machine under another
load, is known to repeats made at other times only, and there in part.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.board.diff.changes import Quantity, Row
from bench.board.diff.matching import Pair, match
from bench.records.record import Record

Repeats = Mapping[str, Sequence[Record]]  # by the name of the cell's record in the first


@dataclass(frozen=True)
class Measured:
    """On the compared scale."""

    before: float  # means over seeds and, of the first, over its runs
    after: float
    error: float  # standard error of after - before, had nothing changed
    freedom: int  # degrees of freedom of `error`; 0: there is no repeat, and it is not known
    source: str

    def bound(self, false_alarms: float) -> float:
        """What noise alone exceeds, in the direction for the worse, this often."""
        from scipy.stats import t

        return float(t.isf(false_alarms, self.freedom)) * self.error


@dataclass(frozen=True)
class Cell:
    """One seed."""

    runs: tuple[float, ...]  # the first's value, then those of its repeats
    after: float
    resolution: float  # the least that the value can change by, as far as that matters


def measure(row: Row, quantity: Quantity, repeats: Repeats) -> Measured | None:
    """None where no seed has the quantity on both sides."""
    cells = [cell for pair in row.pairs if (cell := _cell(quantity, pair, repeats))]
    if not cells:
        return None
    means = [statistics.fmean(cell.runs) for cell in cells]
    freedom = sum(len(cell.runs) - 1 for cell in cells)
    if freedom:
        within = sum((run - mean) ** 2 for cell, mean in zip(cells, means, strict=True) for run in cell.runs)
        deviation = math.sqrt(within / freedom)
        source = f"the spread of {len(cells)} cells over {len(cells) + freedom} runs"
    else:
        freedom = len(cells) - 1
        moves = [cell.after - mean for cell, mean in zip(cells, means, strict=True)]
        deviation = statistics.stdev(moves) / math.sqrt(2) if freedom else 0.0
        source = f"the spread of changes over {len(cells)} seeds"
    deviation = max(deviation, *(cell.resolution for cell in cells))
    error = deviation * math.sqrt(sum(1 + 1 / len(cell.runs) for cell in cells)) / len(cells)
    return Measured(statistics.fmean(means), statistics.fmean(c.after for c in cells), error, freedom, source)


def repeats_of(first: Iterable[Record], again: Iterable[Iterable[Record]]) -> Repeats:
    """The same cells in other sets of records; a copy of the first's record is no repeat."""
    first = list(first)
    found: dict[str, list[Record]] = {}
    for pair in [pair for records in again for pair in match(first, records).pairs if pair.second != pair.first]:
        found.setdefault(pair.first.name, []).append(pair.second)
    return found


def _cell(quantity: Quantity, pair: Pair, repeats: Repeats) -> Cell | None:
    before, after = quantity.value(pair.first), quantity.value(pair.second)
    if before is None or after is None:
        return None
    again = [value for record in repeats.get(pair.first.name, ()) if (value := quantity.value(record)) is not None]
    return Cell((before, *again), after, quantity.resolution(pair.first))
