"""Ranks are shared where seeds or examples do not tell rows apart, and only there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sample_records import record, tables

from bench import board
from bench.board.analysis import statistics
from bench.board.analysis.grouping import settings
from bench.board.analysis.over_tasks import summaries
from bench.board.analysis.ranks import Ranking, Run, Runs, ranked, ranking
from bench.board.analysis.stability import of_setting
from bench.records.record import Record

EXAMPLES = 400


def drawn(g: np.random.Generator, means: Sequence[float], seeds: int, spread: float, strata: int = 1) -> list[Runs]:
    """A row for each mean, best observed one first: scores over seeds, and outcomes that make them."""
    made: list[Runs] = []
    easy = g.normal(0, 0.1, (strata, EXAMPLES))  # the same examples are hard for all rows
    for mean in means:
        row: list[dict[tuple[int | None, str, int], Run]] = []
        for stratum in range(strata):
            chance = mean + g.normal(0, spread, (seeds, 1)) + easy[stratum]
            right = (g.random((seeds, EXAMPLES)) < chance).astype(int)
            row.append({(i, str(stratum), EXAMPLES): run(one.tolist()) for i, one in enumerate(right)})
        made.append(row)
    return sorted(made, key=lambda row: -np.mean([np.mean([one.test for one in part.values()]) for part in row]))


def run(right: Sequence[int]) -> Run:
    return Run(sum(right) / len(right), "".join(map(str, right)))


@pytest.mark.parametrize(("seeds", "strata"), [(1, 1), (5, 1), pytest.param(5, 4, marks=pytest.mark.full)])
def test_ranks_of_equal_methods_are_shared_in_95_of_100_tables(seeds: int, strata: int) -> None:
    g = np.random.default_rng(seeds + strata)
    # another seed may turn what one seed shows, so that with one the methods' seeds have to give the same
    spread = 0.0 if seeds == 1 else 0.02
    found = [ranking(drawn(g, [0.7] * 6, seeds, spread, strata)).rank for _ in range(300)]
    wrong = np.mean([rank != (1,) * 6 for rank in found])
    assert wrong <= 0.05 + 2 * (0.05 * 0.95 / 300) ** 0.5, wrong


def test_planted_differences_separate() -> None:
    g = np.random.default_rng(1)
    found = [ranking(drawn(g, [0.9, 0.7, 0.7, 0.5], 5, 0.005)).rank for _ in range(100)]
    assert np.mean([rank == (1, 2, 2, 4) for rank in found]) > 0.9, found


def test_the_difference_a_table_could_detect_is_found_with_its_power() -> None:
    g = np.random.default_rng(2)
    tables = [ranking(drawn(g, [0.7, 0.7], 5, 0.03)) for _ in range(300)]
    detectable = [one.detectable for one in tables if one.detectable is not None]
    assert len(detectable) == 300
    true = float(np.sqrt(np.mean(np.square(detectable))))
    found = [ranking(drawn(g, [0.7, 0.7 - true], 5, 0.03)).rank == (1, 2) for _ in range(300)]
    assert 0.7 < np.mean(found) < 0.9, np.mean(found)


def test_pairs_are_tested_as_the_statistics_of_one_pair_are() -> None:
    g = np.random.default_rng(3)
    for seeds in (1, 3):
        for _ in range(20):
            rows = drawn(g, [0.75, 0.7], seeds, 0.01)
            one, other = ([*row[0].values()] for row in rows)
            p = [statistics.outcomes_p([run.outcomes for run in one], [run.outcomes for run in other])]
            if seeds > 1:
                p.append(statistics.paired_p([[a.test - b.test for a, b in zip(one, other, strict=True)]]) or 1)
            assert (ranking(rows).rank == (1, 2)) == (max(p) < 0.05), p


def test_what_follows_is_told_too_and_a_row_that_scatters_keeps_its_rank() -> None:
    g = np.random.default_rng(4)
    outcomes = [run((g.random(EXAMPLES) < mean).astype(int).tolist()).outcomes for mean in (0.95, 0.75, 0.55, 0.35)]

    def row(name: int, *scores: float) -> Runs:
        return [{(i, "", EXAMPLES): Run(score, outcomes[name]) for i, score in enumerate(scores)}]

    best, middle = row(0, 0.90, 0.91, 0.92, 0.905), row(1, 0.80, 0.812, 0.821, 0.807)
    scattered, low = row(2, 0.95, 0.3, 0.92, 0.8), row(3, 0.70, 0.71, 0.72, 0.709)
    assert ranking([best, middle, scattered, low]).rank == (1, 2, 1, 3)


def test_seeds_that_two_rows_do_not_share_tell_nothing() -> None:
    def row(seeds: Sequence[int], right: int) -> Runs:
        return [{(seed, "", 100): run([1] * (right + seed) + [0] * (100 - right - seed)) for seed in seeds}]

    assert ranking([row([0, 1, 2], 90), row([0, 1, 2], 20), row([3, 4], 20)]).rank[2] == 1
    assert ranking([row([0, 1, 2], 90), row([1], 20), row([0, 1, 2], 10)]).rank[1] == 1, "one seed beside several"
    assert ranking([row([0], 90), row([0], 20)]).rank == (1, 2), "but where there is one seed, examples tell"


def test_no_score_no_rank() -> None:
    (setting,) = settings([record("a", method="a"), record("b", method="b", test=None)])
    assert ranked(setting) == Ranking((1, None), None, 0, 0, ranked(setting).method)
    assert ranking([]).rank == ()


def study(spread: float = 0.01) -> list[Record]:
    """Two tasks, three rows of 5 seeds, learning rates chosen per task; one row has one task only."""
    g = np.random.default_rng(5)
    made: list[Record] = []
    rows = [("full", "none", 0.8, 0.08), ("full", "noise", 0.8, 0.08 * spread), ("lora", "none", 0.5, 0.01)]
    for number, task in enumerate(("sst2", "trec")):
        for method, regularizer, mean, deviation in rows[: 3 - number]:
            for seed in range(5):
                right = (np.arange(EXAMPLES) < EXAMPLES * (mean + g.normal(0, deviation))).astype(int).tolist()
                one = record(f"{task}.{method}.{regularizer}.{seed}", seed, method=method, task=task)
                rate = {"recipe": {"learning_rate": number + len(regularizer)}, "kind": method}
                tuning = {"role": "report", "candidate": f"learning_rate={number + len(regularizer)}", "setting": "s"}
                cell = {**one.cell, "method": rate, "regularizer": regularizer, "tuning": tuning}
                assert one.quality
                quality = one.quality.model_copy(update={"test": run(right).test, "outcomes": run(right).outcomes})
                labels = one.labels.model_copy(update={"regularizer": regularizer})
                made.append(one.model_copy(update={"cell": cell, "quality": quality, "labels": labels}))
    return made


def test_a_regularizer_is_compared_with_the_plain_row_whatever_learning_rates_were_chosen() -> None:
    verdicts = {
        (setting.title, row.method[:4], row.regularizer): one.verdict
        for setting in settings(study())
        for row, one in zip(setting.rows, of_setting(setting), strict=True)
        if one
    }
    assert len(verdicts) == 2 and set(verdicts.values()) == {"steadier"}, verdicts
    same = [one for setting in settings(study(spread=1)) for one in of_setting(setting) if one]
    assert [one.verdict for one in same] == ["cannot say"] * 2


def test_over_tasks_rows_are_put_together_and_those_without_all_tasks_are_not_ranked() -> None:
    (summary,) = summaries(study())
    assert [(line.regularizer, len(line.rows)) for line in summary.lines[2:]] == [("none", 1)]
    assert summary.lines[2].method == "lora (chosen: learning_rate)" and summary.ranking.rank == (1, 1)
    plain = next(line for line in summary.lines if line.key[0].count("full") and line.regularizer == "none")
    scores = [[one.quality.test for one in study() if one.quality and one.name.startswith(task)] for task in ("s", "t")]
    assert plain.strata == [part[:5] for part in scores]
    assert plain.mean == pytest.approx(np.mean(plain.strata))
    assert plain.deviation == pytest.approx(np.mean(np.var(plain.strata, axis=1, ddof=1)) ** 0.5)
    (rows,) = [rows for rows in tables(board.markdown(study())) if "mean place" in rows[0]]
    assert [row["rank"] for row in rows] == ["1", "1", "–"] and rows[2]["tasks"] == "1 of 2"


def test_a_row_of_which_no_seed_finished_is_compared_with_nothing() -> None:
    lost = [record(f"l{seed}", seed=seed, test=None, method="m", regularizer="noise") for seed in range(3)]
    plain = [record(f"p{seed}", seed=seed, test=0.7 + seed / 50, method="m", regularizer="none") for seed in range(3)]
    (setting,) = settings([*lost, *plain])
    assert [one and (one.ratio, one.p, one.verdict) for one in of_setting(setting)] == [
        None,
        (None, None, "cannot say"),
    ]
    for form in board.FORMS.values():
        assert form(board.Contents([*lost, *plain]))


def test_the_board_says_what_ranks_mean() -> None:
    text = board.markdown(study())
    assert "With 5 seeds this table could have detected" in text and "after Holm over 3 pairs" in text
    single = board.markdown([one for one in study() if one.cell["seed"] == 0])
    assert (
        "With one seed this is about other test examples" in single and "The interval of one seed is Wilson" in single
    )
