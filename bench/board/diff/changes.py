"""What moved in a row, which is one method with one regularizer in one setting: each quantity, paired by seed."""

from __future__ import annotations

import functools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bench.board.analysis.grouping import settings
from bench.board.analysis.statistics import Interval, difference_interval, differences, holm, outcomes_p, paired_p
from bench.board.diff.matching import Pair
from bench.board.sections.memory import neediest
from bench.records.record import Record

LEVEL = 0.05  # of the tests together, of one quantity over all rows

Verdict = Literal["moved", "within noise", "not judged", "same"]  # not judged: there is no second seed
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Quantity:
    """A number of a record and how two of them are compared: by difference, or by ratio, then as logarithms."""

    name: str
    read: Callable[[Record], float | None]
    worse: Literal[-1, 1]  # the sign of a change for the worse
    ratio: bool = True
    exact: bool = False  # the same cell gives the same again, so that there is no noise

    def value(self, record: Record) -> float | None:
        """As it is compared; None where it is not known, or is no positive number that could have a ratio."""
        found = self.read(record) if record.status == "ok" else None
        if found is None or not self.ratio:
            return found
        return math.log(found) if found > 0 else None

    def resolution(self, record: Record) -> float:
        """The least that a score can change by: one test example; 0 where it does not matter or is not known."""
        examples = len(record.quality.outcomes) if record.quality and not self.ratio else 0
        return 1 / examples if examples else 0.0

    def shown(self, value: float) -> float:
        """A compared value in the record's own unit."""
        return math.exp(value) if self.ratio else value


def _peak(record: Record) -> int | None:
    most = neediest([record], "train")
    return most.peak_allocated_bytes if most else None


TEST = Quantity("test", lambda r: r.quality and r.quality.test, worse=-1, ratio=False)
DEV = Quantity("dev", lambda r: r.quality and r.quality.dev, worse=-1, ratio=False)
TOKENS = Quantity("tokens/s", lambda r: r.cost and r.cost.tokens_per_second, worse=-1)
STEP = Quantity("step ms", lambda r: r.cost and r.cost.step_milliseconds and r.cost.step_milliseconds.p50, worse=1)
PEAK = Quantity("peak per rank", _peak, worse=1, exact=True)
QUANTITIES = (TEST, DEV, TOKENS, STEP, PEAK)


@dataclass(frozen=True)
class Change:
    """Of one quantity in one row: its values on both sides in the order of seeds, as they are compared."""

    quantity: Quantity
    first: tuple[float, ...]
    second: tuple[float, ...]
    resolution: float  # of a value, see Quantity.resolution

    @property
    def before(self) -> float:
        """The mean over seeds, of ratios the geometric one."""
        return self.quantity.shown(statistics.fmean(self.first))

    @property
    def after(self) -> float:
        return self.quantity.shown(statistics.fmean(self.second))

    @property
    def size(self) -> float:
        """Second - first, or second / first."""
        return self.quantity.shown(statistics.fmean(differences([self.second], [self.first])[0]))

    @functools.cached_property
    def interval(self) -> Interval | None:
        """95 %, of `size`; None with one seed."""
        found = difference_interval([self.second], [self.first])
        shown = self.quantity.shown
        return found and Interval(shown(found.low), shown(found.high))

    @property
    def p(self) -> float | None:
        """Whether the mean change is 0; None with one seed. All that changed alike may vary by the resolution."""
        from scipy.stats import t

        moves = differences([self.second], [self.first])
        found, seeds = paired_p(moves), len(self.first)
        if found is not None or seeds < 2:
            return found
        error = self.resolution / math.sqrt(seeds)
        return 2 * float(t.sf(abs(statistics.fmean(moves[0])) / error, seeds - 1)) if error else 0.0


@dataclass(frozen=True)
class Flips:
    """Test examples over the seeds that both sides have answered."""

    lost: int  # right in the first, wrong in the second
    gained: int
    p: float  # of as many right on both sides


@dataclass(frozen=True)
class Row:
    setting: str
    method: str
    regularizer: str
    pairs: tuple[Pair, ...]  # by seed

    @property
    def title(self) -> str:
        return ", ".join([self.setting, self.method, *([] if self.regularizer == "none" else [self.regularizer])])

    def change(self, quantity: Quantity) -> Change | None:
        """Over the seeds in which both sides know it; None where there is none."""
        known = [(found, quantity.resolution(pair.first)) for pair in self.pairs if (found := values(quantity, pair))]
        if not known:
            return None
        first, second = zip(*(found for found, _ in known), strict=True)
        return Change(quantity, first, second, max(resolution for _, resolution in known))

    @property
    def flips(self) -> Flips | None:
        """None where no seed has the same test examples on both sides."""
        known = [both for pair in self.pairs if (both := _outcomes(pair))]
        known = [both for both in known if len(both[0]) == len(known[0][0])]
        if not known:
            return None
        moved = Counter(change for first, second in known for change in zip(first, second, strict=True))
        p = outcomes_p([first for first, _ in known], [second for _, second in known])
        return Flips(moved["1", "0"], moved["0", "1"], p)


@dataclass(frozen=True)
class Judged:
    row: Row
    change: Change
    p: float | None  # over seeds, Holm-corrected for all rows

    @property
    def verdict(self) -> Verdict:
        if self.change.first == self.change.second:
            return "same"
        if self.change.quantity.exact:
            return "moved"
        return "not judged" if self.p is None else "moved" if self.p < LEVEL else "within noise"


def values(quantity: Quantity, pair: Pair) -> tuple[float, float] | None:
    first, second = quantity.value(pair.first), quantity.value(pair.second)
    return None if first is None or second is None else (first, second)


def rows(pairs: Iterable[Pair]) -> list[Row]:
    """As the first side's boards have them, with the cells that both sides have."""
    partners = {pair.first.name: pair for pair in pairs}
    found = settings(pair.first for pair in partners.values())
    several = Counter(setting.title for setting in found)
    return [
        Row(
            setting.title if several[setting.title] == 1 else f"{setting.title} ({setting.details})",
            row.method,
            row.regularizer,
            tuple(partners[record.name] for record in row.records),
        )
        for setting in found
        for row in setting.rows
    ]


def judge(found: Sequence[Row], quantity: Quantity) -> list[Judged]:
    """The rows that know the quantity on both sides."""
    known = [(row, change) for row in found if (change := row.change(quantity))]
    tested = holm([None if quantity.exact else change.p for _, change in known])
    return [Judged(row, change, p) for (row, change), p in zip(known, tested, strict=True)]


def _outcomes(pair: Pair) -> tuple[str, str] | None:
    """Of the same test examples."""
    first, second = pair.first.quality, pair.second.quality
    if not pair.finished or first is None or second is None or first.data != second.data:
        return None
    same = 0 < len(first.outcomes) == len(second.outcomes)
    return (first.outcomes, second.outcomes) if same else None
