"""Simulations: intervals cover what they say, tests err as often as they say, designs find what they say they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from bench.board.analysis import statistics
from bench.board.analysis.statistics import Interval

DRAWS = 1000  # the binomial error of a share of 0.95 is 0.0069
Generator = np.random.Generator
Draw = Callable[[Generator, int], np.ndarray]  # a generator and how many -> scores, whose mean over draws is MEAN
MEAN = 0.75
SHAPES: dict[str, Draw] = {
    "normal": lambda g, n: g.normal(MEAN, 0.03, n),
    "uniform": lambda g, n: g.uniform(MEAN - 0.05, MEAN + 0.05, n),
    "accuracy": lambda g, n: g.binomial(200, MEAN, n) / 200,
}


def covers(interval: Interval | None, value: float) -> bool:
    assert interval is not None
    return interval.low <= value <= interval.high


def share(hits: Iterator[bool]) -> float:
    return float(np.mean(list(hits)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seeds", [5, 10])
def test_the_interval_of_a_mean_covers_it(shape: str, seeds: int) -> None:
    g = np.random.default_rng(seeds)
    draw = SHAPES[shape]
    found = share(covers(statistics.mean_interval([draw(g, seeds).tolist()]), MEAN) for _ in range(DRAWS))
    assert 0.93 <= found <= 0.97, found


def test_the_interval_of_an_aggregate_covers_it_with_strata_of_different_spreads() -> None:
    g = np.random.default_rng(1)
    means, deviations = [0.9, 0.8, 0.7, 0.6], [0.01, 0.02, 0.03, 0.04]

    def one() -> Interval | None:
        strata = [g.normal(mean, deviation, 5).tolist() for mean, deviation in zip(means, deviations, strict=True)]
        return statistics.mean_interval(strata)

    found = share(covers(one(), 0.75) for _ in range(DRAWS))
    assert 0.93 <= found <= 0.97, found


def test_the_interval_of_a_paired_difference_covers_it_and_profits_from_what_seeds_share() -> None:
    g = np.random.default_rng(2)
    widths: list[tuple[float, float]] = []

    def one() -> Interval | None:
        shared = g.normal(0, 0.05, (4, 5))
        first, second = ((shared + g.normal(mean, 0.02, (4, 5))).tolist() for mean in (0.8, 0.7))
        paired = statistics.difference_interval(first, second)
        unpaired = statistics.unpaired_interval(first, second)
        assert paired and unpaired
        widths.append((paired.high - paired.low, unpaired.high - unpaired.low))
        return paired

    found = share(covers(one(), 0.1) for _ in range(DRAWS))
    paired, unpaired = np.mean(widths, 0)
    assert 0.93 <= found <= 0.97, found
    assert paired < unpaired / 2, (paired, unpaired)


def test_the_interval_of_an_unpaired_difference_covers_it_with_different_numbers_of_seeds() -> None:
    g = np.random.default_rng(3)

    def one() -> Interval | None:
        return statistics.unpaired_interval([g.normal(0.8, 0.02, 5).tolist()], [g.normal(0.7, 0.05, 10).tolist()])

    found = share(covers(one(), 0.1) for _ in range(DRAWS))
    assert 0.93 <= found <= 0.97, found


@pytest.mark.parametrize(
    ("strata", "seeds", "shape", "highest"),
    [
        (1, 5, "normal", 0.97),
        pytest.param(1, 10, "accuracy", 0.97, marks=pytest.mark.full),
        pytest.param(4, 5, "normal", 0.97, marks=pytest.mark.full),
        pytest.param(1, 10, "uniform", 1, marks=pytest.mark.full),
    ],
)
def test_the_interval_of_a_ratio_of_deviations_covers_it(strata: int, seeds: int, shape: str, highest: float) -> None:
    """It is smoothed, so it is too wide for a flat shape."""
    g = np.random.default_rng(4)
    draw = SHAPES[shape]

    def one() -> Interval | None:
        first, second = ([draw(g, seeds) for _ in range(strata)] for _ in range(2))
        ratio = statistics.deviation_ratio([(2 * values).tolist() for values in first], [v.tolist() for v in second])
        return ratio and ratio.interval

    found = share(covers(one(), 2.0) for _ in range(DRAWS))
    assert 0.93 <= found <= highest, found


def test_wilsons_interval_covers_an_accuracy() -> None:
    counts = np.random.default_rng(5).binomial(500, 0.9, 4 * DRAWS)
    intervals = {count: statistics.wilson(int(count), 500) for count in set(counts.tolist())}
    found = share(covers(intervals[count], 0.9) for count in counts.tolist())
    assert 0.93 <= found <= 0.97, found


@pytest.mark.parametrize(("strata", "seeds"), [(1, 5), (1, 10), (4, 5)])
def test_the_paired_test_over_seeds_errs_in_5_of_100(strata: int, seeds: int) -> None:
    g = np.random.default_rng(6)
    p = [statistics.paired_p(g.normal(0, 0.03, (strata, seeds)).tolist()) for _ in range(4 * DRAWS)]
    found = float(np.mean(np.array(p, float) < 0.05))
    assert 0.035 <= found <= 0.06, found


@pytest.mark.parametrize("seeds", [pytest.param(1, marks=pytest.mark.full), 5])
def test_the_test_over_examples_errs_in_at_most_5_of_100(seeds: int) -> None:
    g = np.random.default_rng(7)

    def one() -> float:
        easy = g.uniform(0.4, 1, 400)  # the same examples are hard for both
        first, second = (g.random((2, seeds, 400)) < easy).astype(int)
        return statistics.outcomes_p(*(["".join(map(str, row)) for row in side] for side in (first, second)))

    found = share(one() < 0.05 for _ in range(DRAWS))
    # McNemar's is exact, so it errs less often where few examples differ
    assert (0.02 if seeds == 1 else 0.035) <= found <= 0.065, found


@pytest.mark.parametrize(
    ("strata", "seeds", "power"),
    [
        pytest.param(1, 5, 0.25, marks=pytest.mark.full),
        pytest.param(1, 10, 0.8, marks=pytest.mark.full),
        (4, 5, 0.95),
    ],
)
def test_the_test_of_spreads_errs_in_5_of_100_and_finds_what_is_there(strata: int, seeds: int, power: float) -> None:
    g = np.random.default_rng(8)

    def rate(ratio: float) -> float:
        draws = ((g.normal(0, ratio, (strata, seeds)), g.normal(0, 1, (strata, seeds))) for _ in range(DRAWS))
        p = [statistics.brown_forsythe(a.tolist(), b.tolist()) for a, b in draws]
        return float(np.mean(np.array(p, float) < 0.05))

    alarms, found = rate(1), rate(4)
    assert 0.025 <= alarms <= 0.065, alarms  # it stays a little below 5 of 100
    assert found >= power, found


def test_holm_is_that_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    g = np.random.default_rng(9)
    for count in (1, 7, 153):
        p = (g.random(count) ** 3).tolist()
        assert statistics.holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())
    assert statistics.holm([None, 0.01, None, 0.04]) == [None, pytest.approx(0.02), None, pytest.approx(0.04)]
    assert statistics.holm([]) == [] and statistics.holm([None]) == [None]


@pytest.mark.parametrize(
    ("seeds", "level"),
    [pytest.param(5, 0.95, marks=pytest.mark.full), pytest.param(10, 0.95, marks=pytest.mark.full), (5, 0.995)],
)
def test_the_detectable_difference_is_found_with_the_power_it_is_made_for(seeds: int, level: float) -> None:
    g = np.random.default_rng(10)
    difference = statistics.detectable_difference(0.03, seeds, power=0.8, level=level)
    assert difference is not None
    p = [statistics.paired_p([g.normal(difference, 0.03, seeds).tolist()]) for _ in range(4 * DRAWS)]
    found = float(np.mean(np.array(p, float) < 1 - level))
    assert abs(found - 0.8) < 3 * (0.8 * 0.2 / len(p)) ** 0.5, found


def test_units_and_the_order_of_strata_change_nothing() -> None:
    g = np.random.default_rng(11)
    first, second = (g.normal(0.7, 0.05, (4, 5)) for _ in range(2))
    one, other = first.tolist(), second.tolist()
    for more in (100 * first, first[:, ::-1]):
        ratio = statistics.deviation_ratio(more.tolist(), (second * (more.max() / first.max())).tolist())
        assert ratio and ratio.value == pytest.approx(statistics.deviation_ratio(one, other).value)  # type: ignore[union-attr]
    for p in (statistics.brown_forsythe, lambda a, b: statistics.paired_p(statistics.differences(a, b))):
        expected = p(one, other)
        assert p((100 * first).tolist(), (100 * second).tolist()) == pytest.approx(expected)
        assert p(one[::-1], other[::-1]) == pytest.approx(expected)
        assert p(other, one) == pytest.approx(expected)
    percent, whole = statistics.mean_interval((100 * first).tolist()), statistics.mean_interval(one)
    assert percent and whole and percent.low == pytest.approx(100 * whole.low)
    assert percent.high == pytest.approx(100 * whole.high)


def test_what_cannot_be_known_is_none() -> None:
    assert statistics.mean_interval([[0.7]]) is None and statistics.mean_interval([]) is None
    assert statistics.paired_p([[0.1]]) is None and statistics.paired_p([[0.1, 0.1]]) is None
    assert statistics.paired_p([[0.0, 0.0]]) == 1
    assert statistics.deviation_ratio([[0.7, 0.7]], [[0.6, 0.7]]) is None
    assert statistics.brown_forsythe([[0.7]], [[0.6, 0.7]]) is None
    assert statistics.brown_forsythe([[]], [[0.6, 0.7, 0.9]]) is None
    assert statistics.brown_forsythe([[0.85, 0.86, 0.87]] * 2, [[0.8, 0.7, 0.9]] * 2) is None
    assert statistics.detectable_difference(0.1, 1) is None
    assert statistics.outcomes_p(["1010"], ["1010"]) == 1


def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end() -> None:
    assert statistics.interquartile_mean([0, 1, 2, 9]) == pytest.approx(1.5)
    assert statistics.interquartile_mean([0, 3, 9]) == pytest.approx(4)
