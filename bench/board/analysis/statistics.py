"""Statistics of scores over seeds and over test examples: pure functions of numbers.

What is known of several tasks comes as strata, a sequence of the values over seeds for each task. An aggregate is the
mean of the strata's means: seeds are resampled, or their spread is taken, within each task. Resampling draws from a
fixed seed, so that the same numbers give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float]
Strata = Sequence[Values]
Array = NDArray[np.float64]

RESAMPLES = 2000
SEED = 20230502


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Ratio:
    """Of two spreads, the first through the second, with the interval of it."""

    value: float
    interval: Interval


def interquartile_mean(values: Values) -> float:
    """The mean without the lowest and the highest quarter of `values`, of which there are one or more."""
    from scipy.stats import trim_mean

    return float(trim_mean(np.asarray(values, float), 0.25))


def mean_interval(strata: Strata, level: float = 0.95) -> Interval | None:
    """Of the mean of the strata's means; None where a stratum has one value only, whose spread nobody knows."""
    share = 1 / len(strata) if strata else 0.0
    return _interval([(share, np.asarray(values, float)) for values in strata], level)


def difference_interval(first: Strata, second: Strata, level: float = 0.95) -> Interval | None:
    """Of mean(first) - mean(second), whose values are paired by their places."""
    return mean_interval(differences(first, second), level)


def unpaired_interval(first: Strata, second: Strata, level: float = 0.95) -> Interval | None:
    """Of mean(first) - mean(second), of runs that have nothing to do with each other."""
    parts = [(1 / len(first), np.asarray(values, float)) for values in first]
    return _interval(parts + [(-1 / len(second), np.asarray(values, float)) for values in second], level)


def differences(first: Strata, second: Strata) -> list[list[float]]:
    return [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(first, second, strict=True)]


def wilson(right: int, count: int, level: float = 0.95) -> Interval:
    """Of an accuracy: what other test examples of the same kind could have made of it."""
    from statsmodels.stats.proportion import proportion_confint

    ends: Any = proportion_confint(right, count, 1 - level, "wilson")
    return Interval(float(ends[0]), float(ends[1]))


def paired_p(strata: Strata) -> float | None:
    """Of differences over seeds, whether their mean is 0: the t test, stratified, with Welch's degrees of freedom.

    None where it cannot tell: a stratum of one seed, or differences that are all the same and not 0.
    """
    from scipy.stats import t

    parts = [(1 / len(strata), np.asarray(values, float)) for values in strata]
    if any(len(values) < 2 for _, values in parts) or not parts:
        return None
    mean, variance, freedom = _moments(parts)
    if variance == 0:
        return 1.0 if mean == 0 else None
    return float(2 * t.sf(abs(mean) / math.sqrt(variance), freedom))


def outcomes_p(first: Sequence[str], second: Sequence[str]) -> float:
    """Of outcomes, `1` right and `0` wrong, a string for each seed, whether both are right equally often.

    One pair: exact McNemar (McNemar 1947). Of several seeds the examples' mean differences are what is tested, by
    the paired t test over examples: an example that several seeds answer alike counts once.
    """
    from scipy.stats import binomtest, ttest_1samp

    right, left = (
        np.array([np.frombuffer(one.encode(), np.uint8) for one in side], np.int16) for side in (first, second)
    )
    if right.shape != left.shape:
        raise ValueError(f"outcomes of {right.shape} and {left.shape}: expected the same seeds and examples")
    moved = right - left
    if not moved.any():
        return 1.0
    if len(moved) == 1:
        return float(binomtest(int((moved > 0).sum()), int((moved != 0).sum())).pvalue)
    mean = moved.mean(0)
    if mean.std() == 0:
        return 0.0  # every example moved alike
    found: Any = ttest_1samp(mean, 0)
    return float(found.pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrected for their number (Holm 1979); what is None stays so and counts for nothing.

    Not by statsmodels, whose `multipletests` collects all of Python's garbage at every call: 0.1 s a table.
    """
    known = np.array([p for p in p_values if p is not None], float)
    order = np.argsort(known, kind="stable")
    corrected = np.empty_like(known)
    corrected[order] = np.minimum(1, np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)))
    found = iter(corrected.tolist())
    return [None if p is None else next(found) for p in p_values]


def deviation_ratio(first: Strata, second: Strata, level: float = 0.95) -> Ratio | None:
    """Of the sample standard deviations pooled over strata; None where a stratum has one value or a spread is 0.

    The interval is bootstrapped: both sides are drawn anew from the residuals of both, each side's in its own
    standard deviations and smoothed (Silverman and Young 1987), which takes the two to have one shape, and not a
    flat one: for uniform values it is too wide.
    """
    sides = [[np.asarray(values, float) for values in side] for side in (first, second)]
    if any(len(values) < 2 for side in sides for values in side) or not all(sides):
        return None
    deviations = [_pooled(side) for side in sides]
    if not all(deviations):
        return None
    ratio = deviations[0] / deviations[1]
    pool = np.concatenate(
        [
            (values - values.mean()) * math.sqrt(len(values) / (len(values) - 1)) / deviation
            for side, deviation in zip(sides, deviations, strict=True)
            for values in side
        ]
    )
    generator = np.random.default_rng(SEED)
    logs = np.log(_redrawn(sides[0], pool, generator)) - np.log(_redrawn(sides[1], pool, generator))
    low, high = np.quantile(logs, [(1 - level) / 2, (1 + level) / 2])
    return Ratio(ratio, Interval(ratio * math.exp(-high), ratio * math.exp(-low)))


def brown_forsythe(first: Strata, second: Strata) -> float | None:
    """Whether two sides have the same spread: Levene's test around the medians (Brown and Forsythe 1974).

    Each stratum around its own median, without the zero that this makes whatever the values are (Hines and O'Hara
    Hines 2000): with it 5 seeds a side give false alarms in 0.6 of 100, not 5. None where the distances of neither side
    differ.
    """
    from scipy.stats import f_oneway

    known = [[_from_median(values) for values in side if len(values)] for side in (first, second)]
    away = [np.concatenate(side) if side else [] for side in known]
    if min(map(len, away)) < 2 or all(np.ptp(side) <= 1e-12 * np.max(side) for side in away):  # but for rounding
        return None
    return float(f_oneway(*away).pvalue)


def _from_median(values: Values) -> Array:
    """Distances from the median, one less than values; of an even number the middle two, which are the same, in one."""
    away = np.sort(np.abs(np.asarray(values, float) - np.median(values)))[1:]
    if len(values) % 2 == 0:
        away[0] *= math.sqrt(2)
    return away


def detectable_difference(deviation: float, seeds: int, power: float = 0.8, level: float = 0.95) -> float | None:
    """The true mean of paired differences with this standard deviation that a t test finds with `power`."""
    from scipy.optimize import brentq
    from statsmodels.stats.power import ttest_power

    if seeds < 2:
        return None

    def missing(effect: float) -> float:
        upper = ttest_power(effect, seeds, (1 - level) / 2, alternative="larger")  # the other tail adds nothing
        return power - float(upper)

    highest = 1.0
    while missing(highest) > 0:
        highest *= 2
    found: Any = brentq(missing, 0, highest)
    return deviation * float(found)


def _interval(parts: list[tuple[float, Array]], level: float) -> Interval | None:
    """Of the weighted sum of the parts' means, each part resampled.

    The percentile bootstrap of so few values is too narrow. Its deviations are stretched: by sqrt(n / (n - 1)), so
    that their variance is unbiased, and by the t quantile over the normal one (Hesterberg 2014, arXiv 1411.5279).
    """
    from scipy.special import ndtri, stdtrit  # the quantiles of scipy.stats, without its checks

    if not parts or any(len(values) < 2 for _, values in parts):
        return None
    mean, variance, freedom = _moments(parts)
    if variance == 0:
        return Interval(mean, mean)
    generator = np.random.default_rng(SEED)
    total = np.zeros(RESAMPLES)
    for weight, values in parts:
        n = len(values)
        drawn = values[generator.integers(0, n, (RESAMPLES, n))].mean(1) - values.mean()
        total += weight * math.sqrt(n / (n - 1)) * drawn
    tail = (1 - level) / 2
    low, high = np.quantile(total, [tail, 1 - tail]) * float(stdtrit(freedom, 1 - tail) / ndtri(1 - tail))
    return Interval(mean + float(low), mean + float(high))


def _moments(parts: list[tuple[float, Array]]) -> tuple[float, float, float]:
    """Of the weighted sum of means: itself, its variance, and Welch's and Satterthwaite's degrees of freedom."""
    mean = sum(weight * float(values.mean()) for weight, values in parts)
    shares = [(weight**2 * float(values.var(ddof=1)) / len(values), len(values) - 1) for weight, values in parts]
    variance = sum(share for share, _ in shares)
    if variance <= (1e-12 * max(1.0, abs(mean))) ** 2:  # rounding of values that are all the same
        return mean, 0.0, 0.0
    return mean, variance, variance**2 / sum(share**2 / freedom for share, freedom in shares)


def _pooled(strata: Sequence[Array]) -> float:
    """The standard deviation within strata."""
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in strata)
    return math.sqrt(squares / sum(len(values) - 1 for values in strata))


def _redrawn(strata: Sequence[Array], pool: Array, generator: np.random.Generator) -> Array:
    """Pooled standard deviations [RESAMPLES] of strata of the same sizes, drawn from `pool`, smoothed."""
    width = (4 / (3 * len(pool))) ** 0.2  # the normal reference rule, for a deviation of 1
    squares = np.zeros(RESAMPLES)
    for values in strata:
        shape = (RESAMPLES, len(values))
        drawn = pool[generator.integers(0, len(pool), shape)] + width * generator.standard_normal(shape)
        squares += ((drawn - drawn.mean(1, keepdims=True)) ** 2).sum(1)
    return np.sqrt(squares / sum(len(values) - 1 for values in strata))
