"""Verdicts on claims: effects with 95 % intervals over seeds, within settings, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean, geometric_mean, variance
from typing import Literal

from bench.board.analysis import statistics
from bench.board.analysis.statistics import Interval
from bench.board.claims.claim import Claim, Part
from bench.board.claims.matching import Line, Material, Unit, units
from bench.board.claims.quantities import QUANTITIES, Quantity
from bench.records.record import Record

Answer = Literal["supported", "contradicted", "not decided yet"]

ERROR = 0.05  # of the parts of a claim together


@dataclass(frozen=True)
class Estimate:
    """An effect: in points, or the first side's value through the second's."""

    effect: float | None
    interval: Interval | None
    p: float | None  # of no effect, or of one as large as the margin; None for the spread of several lines


@dataclass(frozen=True)
class Verdict:
    claim: Claim
    part: str | None  # its name; None: of the whole claim
    answer: Answer
    reason: str  # why it is not decided; empty where it is
    estimate: Estimate
    corrected: float | None  # p, for the number of parts (Holm); of a part only
    units: tuple[Unit, ...]  # that count
    own: tuple[Estimate, ...]  # the effect in each of them; of the spread without an interval
    unused: int  # settings with both sides, but too few seeds
    failed: tuple[Record, ...]
    parts: tuple[Verdict, ...] = ()

    @property
    def quantity(self) -> Quantity:
        return QUANTITIES[self.claim.quantity]

    @property
    def records(self) -> list[Record]:
        """The cells behind the effect, by name."""
        found = {record.name: record for unit in self.units for record in unit.records}
        return [found[name] for name in sorted(found)]

    @property
    def tasks(self) -> list[str]:
        return sorted({unit.task for unit in self.units})

    @property
    def backbones(self) -> list[str]:
        return sorted({unit.backbone for unit in self.units})

    @property
    def directions(self) -> tuple[int, int]:
        """In how many settings the first side is higher, and in how many lower."""
        effects = [one.effect for one in self.own if one.effect is not None]
        even = self.quantity.even
        return sum(effect > even for effect in effects), sum(effect < even for effect in effects)


def verdicts(claims: Iterable[Claim], records: Iterable[Record]) -> list[Verdict]:
    """On each claim, with its parts; of records that only served to choose hyper-parameters nothing is used."""
    material = Material.of(records)
    return [_with_parts(claim, material) for claim in claims]


def _with_parts(claim: Claim, material: Material) -> Verdict:
    parts = [_verdict(claim, name, part, material) for name, part in claim.parts.items()]
    corrected = statistics.holm([part.estimate.p for part in parts]) if parts else []
    named = tuple(_corrected(part, p) for part, p in zip(parts, corrected, strict=True))
    return replace(_verdict(claim, None, Part(), material), parts=named)


def _corrected(part: Verdict, p: float | None) -> Verdict:
    """Not decided where what the part's own interval says does not outlast the correction for all parts."""
    if part.answer == "not decided yet" or p is None or p < ERROR:
        return replace(part, corrected=p)
    return replace(part, corrected=p, answer="not decided yet", reason="not beyond the correction for all parts")


def _verdict(claim: Claim, name: str | None, part: Part, material: Material) -> Verdict:
    found = units(claim, part, material)
    used = [unit for unit in found if len(unit.seeds) >= claim.seeds]
    failed = {record.name: record for unit in found for side in unit.failed for record in side}
    measured = estimate(claim, used)
    answer, reason = _answer(claim, measured, found, used)
    own = tuple(_own(claim, unit) for unit in used)
    lost = tuple(failed[key] for key in sorted(failed))
    return Verdict(claim, name, answer, reason, measured, None, tuple(used), own, len(found) - len(used), lost)


def _answer(claim: Claim, measured: Estimate, found: Sequence[Unit], used: Sequence[Unit]) -> tuple[Answer, str]:
    """And why it is not decided, where it is not."""
    open_: Answer = "not decided yet"
    if not found:
        return open_, "no setting has cells of both sides"
    if not used:
        return open_, f"no setting has {claim.seeds} seeds of both sides that finished and know it"
    tasks = len({unit.task for unit in used})
    if tasks < claim.tasks:
        return open_, f"{tasks} of at least {claim.tasks} tasks"
    if measured.interval is None:
        return open_, "the effect cannot be computed: a side has no spread"
    bound = _bound(claim)
    above, below = measured.interval.low > bound, measured.interval.high < bound
    if not (above or below):
        margin = "the margin" if claim.margin else "no effect"
        return open_, f"the interval contains {margin}"
    if better := _lost_more(claim, found, 0 if above == (claim.direction == "higher") else 1):
        return open_, better
    return ("supported" if above == (claim.direction == "higher") else "contradicted"), ""


def _bound(claim: Claim) -> float:
    """The effect that the claimed side begins at."""
    margin = claim.margin or 0.0
    return QUANTITIES[claim.quantity].even + (-margin if claim.direction == "higher" else margin)


def _lost_more(claim: Claim, found: Sequence[Unit], favoured: int) -> str:
    """Why the figures of the side that they speak for say too much, if they do: its cells that are not in them."""
    against = QUANTITIES[claim.quantity].against
    lost, others = (_lost(found, side, against) for side in (favoured, 1 - favoured))
    ended, side = " or ".join(sorted(against)), ("first", "second")[favoured]
    return f"of the {side} side, which the figures speak for, more seeds are {ended}" if lost > others else ""


def _lost(found: Sequence[Unit], side: int, against: frozenset[str]) -> int:
    """How many seeds of all units have a cell that ended so."""
    cells = ((unit, record) for unit in found for record in unit.failed[side] if record.status in against)
    return len({(unit.title, record.cell.get("seed", 0)) for unit, record in cells})


def estimate(claim: Claim, used: Sequence[Unit]) -> Estimate:
    """Of the mean over units, or of the spread within them; seeds are paired."""
    return _of_spreads(used) if claim.quantity == "spread" else _of_means(claim, used)


def _own(claim: Claim, unit: Unit) -> Estimate:
    """In one unit. So few seeds say next to nothing of a ratio of spreads."""
    if claim.quantity != "spread":
        return _of_means(claim, [unit])
    one, two = (pooled([line.only(unit.seeds) for line in side]) for side in (unit.first, unit.second))
    return Estimate(one / two if two else None, None, None)


def pooled(values: Iterable[Sequence[float]]) -> float:
    """The standard deviation within samples of the same size."""
    return math.sqrt(fmean(map(variance, values)))


def _of_spreads(used: Sequence[Unit]) -> Estimate:
    """Of standard deviations, pooled over units for each pair of lines; of several pairs the geometric mean.

    So are the bounds: no narrower interval holds whatever lines of the same seeds have in common.
    """
    strata: dict[tuple[str, str], tuple[list[list[float]], list[list[float]]]] = {}
    for unit in used:
        for one, two in product(unit.first, unit.second):
            sides = strata.setdefault((one.name, two.name), ([], []))
            for side, line in zip(sides, (one, two), strict=True):
                side.append(line.only(unit.seeds))
    ratios = [statistics.deviation_ratio(*sides) for sides in strata.values()]
    known = [ratio for ratio in ratios if ratio is not None]
    if not known or len(known) < len(ratios):
        return Estimate(None, None, None)
    low, high = (
        geometric_mean(bounds) for bounds in zip(*((r.interval.low, r.interval.high) for r in known), strict=True)
    )
    p = statistics.brown_forsythe(*next(iter(strata.values()))) if len(strata) == 1 else None
    return Estimate(geometric_mean(ratio.value for ratio in known), Interval(low, high), p)


def _of_means(claim: Claim, used: Sequence[Unit]) -> Estimate:
    """Of the mean over units of the paired differences over seeds; of ratios their logarithms are what differs."""
    ratio = QUANTITIES[claim.quantity].ratio
    first = [over_lines(unit.first, unit.seeds, ratio) for unit in used]
    second = [over_lines(unit.second, unit.seeds, ratio) for unit in used]
    differences = statistics.differences(first, second)
    if not differences:
        return Estimate(None, None, None)
    effect = fmean(map(fmean, differences))
    interval = statistics.mean_interval(differences)
    bound = 0.0 if ratio else _bound(claim)
    p = statistics.paired_p([[value - bound for value in values] for values in differences])
    if ratio:
        effect = math.exp(effect)
        interval = interval and Interval(math.exp(interval.low), math.exp(interval.high))
    return Estimate(effect, interval, p)


def over_lines(lines: Sequence[Line], seeds: Iterable[int], ratio: bool) -> list[float]:
    """The mean over a side's lines, for each seed; of ratios the logarithms'."""
    of = math.log if ratio else float
    return [fmean(of(line.values[seed]) for line in lines) for seed in seeds]
