"""Ranks that admit ties: rows of a table share a rank where seeds or test examples do not tell them apart.

Two questions are asked of every pair of rows. Would other seeds turn the order? The paired t test over seeds. Would
other test examples? Exact McNemar for one seed, the paired t test over examples' mean outcomes for several. A row is
better than another when both say so: of the two the larger p counts (intersection-union test, Berger 1982), corrected
for all pairs of the table (Holm 1979), so that in 95 of 100 tables no pair is told apart in error.

The rank of a row is 1 + the number of rows that are better than it: the lower end of its simultaneous confidence set
of ranks (Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for Ranks"). What follows from two differences that are
told, the first above the third, is told too; so of rows that share a rank none is better than another. A row whose
scores scatter can have a better rank than one with a higher mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bench.board.analysis.grouping import Row, Setting
from bench.board.analysis.statistics import detectable_difference, holm

LEVEL, POWER = 0.95, 0.8

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """One seed of a row."""

    test: float
    outcomes: str  # `1` right and `0` wrong


Key = tuple[int | None, str, int]  # what makes two runs a pair: the seed, the data's hash, how many test examples
Runs = Sequence[Mapping[Key, Run]]  # of one row, a stratum (a task) each; a setting's table has one


@dataclass(frozen=True)
class Ranking:
    """Of the rows of a table, in their order."""

    rank: tuple[int | None, ...]  # 1 is best; None where a row has no score
    detectable: float | None  # the true difference that the test over seeds finds with POWER; 0..1
    pairs: int  # of rows, that were compared
    seeds: int  # in each stratum, that most pairs have in common
    method: str  # the test, in a sentence


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows that have the same seeds in common."""

    first: Counts  # [P] places of the rows with the higher mean
    second: Counts  # [P]
    keys: tuple[tuple[Key, ...], ...]  # that all of them share, by stratum

    @property
    def seeds(self) -> int:
        """In the stratum that has fewest."""
        return min(map(len, self.keys))


@dataclass(frozen=True)
class Moments:
    """Of a mean of strata's means, for each pair."""

    mean: Array  # [P]
    variance: Array  # [P] of that mean
    freedom: Array  # [P] degrees of freedom (Welch, Satterthwaite)


def ranked(setting: Setting) -> Ranking:
    """Of a setting's rows. It takes some milliseconds: ask once."""
    return ranking([[runs(row)] for row in setting.rows])


def runs(row: Row) -> dict[Key, Run]:
    return {
        (record.cell.get("seed"), quality.data, len(quality.outcomes)): Run(quality.test, quality.outcomes)
        for record in row.finished
        if (quality := record.quality)
    }


def ranking(rows: Sequence[Runs]) -> Ranking:
    """Of rows in the order of their means, best first; one without a run in some stratum has no rank."""
    scored = [place for place, row in enumerate(rows) if all(row)]
    groups = _pairs(rows, scored)
    over_seeds = any(pairs.seeds > 1 for pairs in groups)
    better: dict[tuple[int, int], float | None] = {}
    spreads: list[tuple[Pairs, Moments]] = []
    for pairs in groups:
        seeds, examples = _seeds(rows, pairs), _examples(rows, pairs)
        p = _examples_p(rows, pairs, examples)
        if over_seeds:
            p = np.maximum(p, _t_p(seeds, np.nan))
        p[(seeds.mean <= 0) | (examples.mean <= 0)] = 1  # no reason to turn the order of the means
        found = [None if np.isnan(one) else one for one in p.tolist()]
        better |= dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), found, strict=True))
        spreads.append((pairs, seeds))
    corrected = dict(zip(better, holm(list(better.values())), strict=True))
    told = {pair for pair, p in corrected.items() if p is not None and p < 1 - LEVEL}
    count = sum(p is not None for p in corrected.values())
    detectable, shared = _detectable(spreads, count)
    return Ranking(_ranks(len(rows), scored, told), detectable, count, shared, METHODS[over_seeds])


def _ranks(count: int, scored: Sequence[int], told: set[tuple[int, int]]) -> tuple[int | None, ...]:
    """1 + the number of rows that are better, also by way of others."""
    above: dict[int, set[int]] = {}
    for place in scored:
        direct = {other for other in above if (other, place) in told}
        above[place] = direct.union(*(above[other] for other in direct))
    return tuple(1 + len(above[place]) if place in above else None for place in range(count))


def _detectable(spreads: Sequence[tuple[Pairs, Moments]], count: int) -> tuple[float | None, int]:
    """With the variances of all pairs that have as many seeds as most have; and that number of seeds."""
    sizes: dict[int, list[Array]] = {}
    for pairs, moments in spreads:
        sizes.setdefault(pairs.seeds, []).append(moments.variance)
    variances = {seeds: np.concatenate(found) for seeds, found in sizes.items()}
    seeds = max(variances, key=lambda number: (len(variances[number]), -number), default=0)
    if seeds < 2 or not count:
        return None, seeds
    strata = len(spreads[0][0].keys)
    runs = strata * (seeds - 1) + 1  # of one stratum with as many degrees of freedom
    deviation = math.sqrt(float(variances[seeds].mean()) * runs)
    return (deviation * _detectable_effect(runs, count) if deviation else None), seeds


@cache
def _detectable_effect(seeds: int, comparisons: int) -> float:
    """In standard deviations of the paired differences; under Holm the first of the comparisons has to pass this."""
    found = detectable_difference(1.0, seeds, POWER, 1 - (1 - LEVEL) / comparisons)
    assert found is not None, "two seeds or more"
    return found


def _pairs(rows: Sequence[Runs], scored: Sequence[int]) -> list[Pairs]:
    """All pairs of the rows `scored` that share a seed, in every stratum."""
    held = {place: tuple(frozenset(stratum) for stratum in rows[place]) for place in scored}
    found: dict[tuple[frozenset[Key], ...], list[tuple[int, int]]] = {}
    for one, other in combinations(scored, 2):
        shared = tuple(a & b for a, b in zip(held[one], held[other], strict=True))
        if all(shared):
            found.setdefault(shared, []).append((one, other))
    made: list[Pairs] = []
    for shared, places in found.items():
        first, second = np.array(places).T
        made.append(Pairs(first, second, tuple(tuple(sorted(keys, key=str)) for keys in shared)))
    return made


def _seeds(rows: Sequence[Runs], pairs: Pairs) -> Moments:
    """Of the differences in test score, over seeds."""
    parts: list[tuple[Array, Array, int]] = []
    for number, keys in enumerate(pairs.keys):
        scores = {place: [rows[place][number][key].test for key in keys] for place in _places(pairs)}
        moved = np.array([scores[i] for i in pairs.first.tolist()]) - [scores[j] for j in pairs.second.tolist()]
        variance = moved.var(1, ddof=1) if len(keys) > 1 else np.full(len(moved), np.nan)
        parts.append((moved.mean(1), variance, len(keys)))
    return _moments(parts)


def _examples(rows: Sequence[Runs], pairs: Pairs) -> Moments:
    """Of the differences in being right, the mean of the shared seeds, over test examples."""
    parts: list[tuple[Array, Array, int]] = []
    for number, keys in enumerate(pairs.keys):
        right, first, second = _right(rows, pairs, number)
        products = right @ right.T  # of integers: exact, and no threads for so small a product
        total = right.sum(1)
        count, seeds = right.shape[1], len(keys)
        squares = products[first, first] + products[second, second] - 2 * products[first, second]
        with np.errstate(divide="ignore", invalid="ignore"):  # of one example or none
            mean = (total[first] - total[second]) / count
            variance = (squares / count - mean**2) * count / (count - 1)
        parts.append((mean / seeds, variance / seeds**2, count))
    return _moments(parts)


def _right(rows: Sequence[Runs], pairs: Pairs, number: int) -> tuple[Counts, Counts, Counts]:
    """How many of the shared seeds are right about each example [rows, examples], and the rows of every pair there."""
    places = _places(pairs)
    right = np.array([_count([rows[place][number][key].outcomes for key in pairs.keys[number]]) for place in places])
    return right, np.searchsorted(places, pairs.first), np.searchsorted(places, pairs.second)


def _count(outcomes: Sequence[str]) -> Counts:
    characters = np.frombuffer("".join(outcomes).encode(), np.uint8).reshape(len(outcomes), -1)
    return (characters - ord("0")).sum(0, np.int64)


def _places(pairs: Pairs) -> list[int]:
    return sorted({*pairs.first.tolist(), *pairs.second.tolist()})


def _moments(parts: Sequence[tuple[Array, Array, int]]) -> Moments:
    """Of the mean of the strata's means, from each stratum's mean, variance and count."""
    mean = np.mean([mean for mean, _, _ in parts], 0)
    shares = np.array([variance / count for _, variance, count in parts]) / len(parts) ** 2
    variance = shares.sum(0)
    variance[variance <= (1e-12 * np.maximum(1, np.abs(mean))) ** 2] = 0  # rounding of values that are all the same
    counts = np.array([[count] for _, _, count in parts])
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing varies
        freedom = variance**2 / (shares**2 / (counts - 1)).sum(0)
    return Moments(mean, variance, freedom)


def _t_p(of: Moments, constant: float) -> Array:
    """Two-sided; 1 without a difference, NaN where no variance is known, `constant` where there is none."""
    from scipy.stats import t

    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * t.sf(np.abs(of.mean) / np.sqrt(of.variance), of.freedom)
    return np.where(of.variance == 0, np.where(of.mean == 0, 1.0, constant), p)


def _examples_p(rows: Sequence[Runs], pairs: Pairs, examples: Moments) -> Array:
    if len(pairs.keys) > 1 or pairs.seeds > 1:
        return _t_p(examples, 0.0)
    from scipy.stats import binom

    right, first, second = _right(rows, pairs, 0)
    both = (right @ right.T)[first, second]
    total = right.sum(1)
    only = np.array([total[first] - both, total[second] - both])
    return np.minimum(1, 2 * binom.cdf(only.min(0), only.sum(0), 0.5))


METHODS = {
    True: "Two rows are told apart where the paired t test over seeds and that over test examples both tell them, "
    "corrected for all pairs of the table (Holm). Rank is 1 + the number of rows that are better.",
    False: "With one seed, two rows are told apart by exact McNemar tests on test examples, corrected for all pairs of "
    "the table (Holm). Rank is 1 + the number of rows that are better; another seed may turn it.",
}
