"""What `bench diff` says of two sets of records is what was changed between them, and its gate fails at its rate."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import call
from sample_records import record

from bench.board.diff.changes import DEV, PEAK, STEP, TEST, TOKENS, Row
from bench.board.diff.difference import Difference, compare
from bench.board.diff.gate import gate
from bench.board.diff.matching import Matching, Pair, match
from bench.board.diff.noise import repeats_of
from bench.board.diff.report import parts
from bench.records import store
from bench.records.record import Environment, Memory, Quality, Quantiles, Record

SCORES = (0.80, 0.82, 0.79, 0.81, 0.83)
SPEEDS = (1000.0, 1010.0, 990.0, 1005.0, 995.0)
PEAK_BYTES = 2**28
EXAMPLES = 100
EVERYWHERE = Environment(
    commit="c" * 40,
    dirty=False,
    versions={"torch": "2.9.0", "peft": "0.18.0"},
    hosts=("host",),
    accelerator="cpu",
    threads=1,
    launcher="deepspeed",
)


def seed_of(
    method: str = "full",
    seed: int = 0,
    test: float = 0.8,
    tokens: float = 1000.0,
    peak: int = PEAK_BYTES,
    environment: Environment | None = EVERYWHERE,
    **cell: Any,
) -> Record:
    """A finished cell: its first `test` examples are right, the speed of its steps goes with its tokens."""
    made = record(f"{method}-{seed}", seed=seed, test=test, method=method)
    assert made.quality and made.cost
    right = round(test * EXAMPLES)
    quality = made.quality.model_copy(update={"outcomes": "1" * right + "0" * (EXAMPLES - right), "dev": test})
    step = Quantiles(p50=1e5 / tokens, p90=2e5 / tokens, p99=3e5 / tokens)
    cost = made.cost.model_copy(update={"tokens_per_second": tokens, "step_milliseconds": step})
    update = {"quality": quality, "cost": cost, "memory": (peak_of(peak),), "environment": environment}
    return made.model_copy(update={**update, "cell": {**made.cell, **cell}})


def peak_of(peak: int) -> Memory:
    fields = {"rank": 0, "host": "host", "phase": "train", "peak_reserved_bytes": None, "rss_bytes": None, "owners": {}}
    return Memory(**fields, peak_allocated_bytes=peak)


def row_of(
    method: str = "full",
    scores: Sequence[float] = SCORES,
    speeds: Sequence[float] = SPEEDS,
    peak: int = PEAK_BYTES,
    **changes: Any,
) -> list[Record]:
    pairs = zip(scores, speeds, strict=False)
    return [seed_of(method, seed, test, tokens, peak, **changes) for seed, (test, tokens) in enumerate(pairs)]


def moved(scores: Sequence[float], by: float, jitter: float = 0.01) -> list[float]:
    """By so much in the mean, not by the same in each seed."""
    return [score + by + jitter * (-1) ** place for place, score in enumerate(scores)]


def failed(one: Record, status: str = "out_of_memory") -> Record:
    return one.model_copy(update={"status": status, "quality": None, "cost": None, "memory": ()})


def verdicts(difference: Difference) -> dict[tuple[str, str], str]:
    return {(one.row.method, q.name): one.verdict for q, found in difference.judged.items() for one in found}


def text(difference: Difference, every_row: bool = False) -> str:
    """All that is printed, a line for each line and row."""
    lines: list[str] = []
    for part in parts(difference, every_row):
        lines += [part.line, *(" | ".join(row) for row in part.rows)]
    return "\n".join(lines)


def test_of_the_same_records_one_line_says_that_nothing_moved() -> None:
    made = row_of("full") + row_of("lora")
    difference = compare(made, made)
    assert set(verdicts(difference).values()) == {"same"}
    assert text(difference) == "Nothing moved: 10 cells in both, 0 in A only, 0 in B only; 2 rows."
    assert text(difference, every_row=True).count("| same") == 2 * 5


def test_noise_is_no_move_and_another_commit_alone_is_nothing_to_explain() -> None:
    noisy = row_of(scores=moved(SCORES, 0.002), environment=EVERYWHERE.model_copy(update={"commit": "d" * 40}))
    difference = compare(row_of(), noisy)
    assert verdicts(difference)["full", "test"] == "within noise"
    assert text(difference).startswith("Nothing moved beyond noise: 5 cells in both")


def test_a_move_is_seen_in_its_quantity_alone_with_its_interval_around_it() -> None:
    still = row_of("lora")
    cases = [
        (TEST, row_of(scores=moved(SCORES, -0.10)), -0.10 + 0.002, {"test", "dev"}),
        (TOKENS, row_of(speeds=[speed * 0.8 for speed in SPEEDS[::-1]]), 0.8, {"tokens/s", "step ms"}),
        (STEP, row_of(speeds=[speed * 0.8 for speed in SPEEDS[::-1]]), 1 / 0.8, {"tokens/s", "step ms"}),
        (PEAK, row_of(peak=PEAK_BYTES * 2), 2.0, {"peak per rank"}),
    ]
    for quantity, changed, size, touched in cases:
        difference = compare(row_of() + still, changed + still)
        found = verdicts(difference)
        assert {name for (method, name), verdict in found.items() if verdict == "moved"} == touched, quantity.name
        assert all(verdict == "same" for (method, _), verdict in found.items() if method == "lora")
        (one,) = [one for one in difference.judged[quantity] if one.row.method == "full"]
        interval = one.change.interval
        assert one.change.size == pytest.approx(size, rel=1e-3), quantity.name
        assert interval and interval.low <= one.change.size <= interval.high, (quantity.name, interval)
        assert not interval.low <= (1 if quantity.ratio else 0) <= interval.high, (quantity.name, interval)


def test_quality_tells_how_many_examples_flipped() -> None:
    difference = compare([seed_of(test=0.8)], [seed_of(test=0.7)])
    (row,) = difference.rows
    assert row.flips and (row.flips.lost, row.flips.gained) == (10, 0)
    assert row.flips.p == pytest.approx(2 * 0.5**10), "exact McNemar"
    assert "| -10.00 | – | – | not judged | 10 | 0 | 0.002" in text(difference)


def test_examples_of_other_data_are_not_compared() -> None:
    other = seed_of(test=0.7)
    assert other.quality
    other = other.model_copy(update={"quality": other.quality.model_copy(update={"data": "e"})})
    difference = compare([seed_of(test=0.8)], [other])
    assert difference.rows[0].flips is None
    assert "data.hash | d | e | 1" in text(difference)


def test_one_seed_is_shown_but_not_judged_save_for_memory_which_has_no_noise() -> None:
    found = verdicts(compare([seed_of()], [seed_of(test=0.5, tokens=10, peak=1)]))
    assert {name: verdict for (_, name), verdict in found.items()} == {
        **dict.fromkeys(("test", "dev", "tokens/s", "step ms"), "not judged"),
        "peak per rank": "moved",
    }


def test_seeds_that_all_changed_alike_moved_unless_it_is_by_an_example() -> None:
    for by, expected in ((-0.30, "moved"), (-0.01, "within noise")):
        found = verdicts(compare(row_of(), row_of(scores=[s + by for s in SCORES], speeds=[s / 2 for s in SPEEDS])))
        assert (found["full", "test"], found["full", "tokens/s"]) == (expected, "moved")


def test_ranks_that_changed_are_counted_and_those_of_moved_scores_are_shown() -> None:
    first = row_of("a", [s + 0.1 for s in SCORES]) + row_of("b", [s + 0.05 for s in SCORES]) + row_of("c")
    second = row_of("a", moved(SCORES, -0.1)) + row_of("b", [s + 0.05 for s in SCORES]) + row_of("c")
    difference = compare(first, second)
    assert [(m.judged.row.method, m.before, m.after) for m in difference.rank_moves] == [
        ("a", 1, 3),
        ("b", 2, 1),
        ("c", 3, 2),
    ]
    shown = text(difference)
    assert "3 rows have another; the scores of 1 of them moved" in shown
    assert "| a | regularizer | 1 | 3 | moved" in shown and "| b | regularizer | 2 | 1" not in shown
    assert "| b | regularizer | 2 | 1 | same" in text(difference, every_row=True)


def test_each_difference_of_environment_is_told_once_with_its_cells() -> None:
    other = EVERYWHERE.model_copy(
        update={"commit": "d" * 40, "dirty": True, "versions": {"torch": "2.10.0", "numpy": "2"}, "hosts": ("h2",)}
    )
    changed = row_of(scores=moved(SCORES, -0.1), environment=other)
    changed[0] = changed[0].model_copy(update={"environment": None})
    found = {(one.what, one.first, one.second, one.cells) for one in compare(row_of(), changed).reasons}
    assert found == {
        ("environment.commit", "c" * 10, "d" * 10 + " with changes", 4),
        ("environment.hosts", "host", "h2", 4),
        ("versions.torch", "2.9.0", "2.10.0", 4),
        ("versions.peft", "0.18.0", None, 4),
        ("versions.numpy", None, "2", 4),
    }


def test_cells_match_by_content_without_tuning_and_without_the_folder_of_a_backbone() -> None:
    backbone = {"name": "m", "source": "folder", "fingerprint": "f", "weighted": True}
    one = seed_of(backbone={**backbone, "location": "/a"})
    tuned = {"role": "report", "setting": "s", "candidate": "learning_rate=1", "seeds": [9]}
    other = seed_of(backbone={**backbone, "location": "/b", "weighted": False}, tuning=tuned)
    matching = match([one], [other.model_copy(update={"name": "other"})])
    assert len(matching.pairs) == 1 and not matching.only_first and not matching.only_second
    elsewhere = seed_of(backbone={**backbone, "location": "/b", "fingerprint": "g"})
    assert not match([one], [elsewhere.model_copy(update={"name": "other"})]).pairs


def test_a_field_that_one_side_has_not_is_passed_over_where_there_is_no_choice() -> None:
    old = seed_of()
    new = seed_of(kernels="auto").model_copy(update={"name": "new"})
    difference = compare([old], [new])
    assert len(difference.matching.pairs) == 1
    assert [tuple(one) for one in difference.reasons] == [("settings.kernels", None, "auto", 1)]
    two = seed_of(kernels="reference").model_copy(update={"name": "two"})
    matching = match([old], [new, two])
    assert not matching.pairs and len(matching.only_second) == 2, "which of them it is nobody knows"


def test_cells_of_one_side_are_named_up_to_a_limit_with_the_setting_they_differ_in() -> None:
    many = [seed_of(seed=seed) for seed in range(30)]
    shorter = [one.model_copy(update={"cell": {**one.cell, "steps": 7}, "name": f"{one.name}-b"}) for one in many]
    difference = compare([*many, seed_of("lora")], [*shorter, seed_of("lora")])
    shown = text(difference)
    assert "1 cells in both, 30 in A only, 30 in B only" in shown
    assert "In A only: full-0, full-1, full-10" in shown and shown.count("and 10 more") == 2
    assert "settings.steps | 10 | 7 | 30" in shown


def test_a_cell_that_ended_otherwise_is_told_and_tuning_cells_are_left_out() -> None:
    tune = {"role": "tune", "setting": "s", "candidate": "learning_rate=1", "seeds": [9]}
    first = [*row_of(), seed_of("tried", tuning=tune)]
    difference = compare(first, [failed(first[0]), *first[1:5]])
    shown = text(difference)
    assert "Cells that ended otherwise: 1.\nfull-0 | ok | out_of_memory" in shown
    assert "5 cells in both, 0 in A only, 0 in B only; 1 rows; tuning cells left out: 1 of A, 0 of B." in shown
    assert len(difference.judged[TEST][0].change.first) == 4, "the seeds that finished on both sides"


def test_the_gate_lets_noise_and_improvements_pass_and_catches_each_regression() -> None:
    better = row_of(scores=[s + 0.15 for s in SCORES], speeds=[s * 3 for s in SPEEDS], peak=PEAK_BYTES // 2)
    assert gate(compare(row_of(), better)).passed
    assert gate(compare(row_of(), row_of(scores=moved(SCORES, -0.01)))).passed
    cases = {
        TEST: row_of(scores=[s - 0.15 for s in SCORES]),
        TOKENS: row_of(speeds=[s * 0.9 for s in SPEEDS]),
        PEAK: row_of(peak=PEAK_BYTES + 1),
    }
    for quantity, worse in cases.items():
        found = gate(compare(row_of() + row_of("lora"), worse + row_of("lora")))
        assert [(one.row.method, one.quantity) for one in found.regressions] == [("full", quantity)]
        assert found.regressions[0].source == "by the spread of changes over 5 seeds"


def test_repeats_give_the_noise_where_there_are_some() -> None:
    again = row_of(scores=moved(SCORES, 0, jitter=0.001), speeds=[s * 1.001 for s in SPEEDS])
    assert not gate(compare(row_of(), row_of(scores=[s - 0.025 for s in SCORES]))).passed, "every seed alike"
    moves = (-0.1, 0.05, -0.1, 0.05, -0.025)
    difference = compare(row_of(), row_of(scores=[s + move for s, move in zip(SCORES, moves, strict=True)]))
    assert gate(difference).passed, "seeds change by more than that"
    first = [pair.first for pair in difference.matching.pairs]
    found = gate(difference, repeats_of(first, [again]))
    assert [one.quantity for one in found.regressions] == [TEST]
    assert found.regressions[0].source == "by the spread of 5 cells over 10 runs"
    assert not repeats_of(first, [first]), "a copy of a record is no run of its own"


def test_equal_scores_do_not_show_that_there_is_no_noise() -> None:
    same = (0.8,) * 5
    assert gate(compare(row_of(scores=same), row_of(scores=(0.8, 0.8, 0.8, 0.8, 0.79)))).passed
    assert not gate(compare(row_of(scores=same), row_of(scores=(0.7,) * 5))).passed


def test_without_a_repeat_a_row_has_no_bound_but_what_is_given() -> None:
    difference = compare([seed_of()], [seed_of(test=0.7, tokens=800)])
    found = gate(difference)
    assert found.passed and not found.limits
    assert [(quantity, why) for _, quantity, why in found.not_gated] == [(q, "no repeat") for q in (TEST, TOKENS, PEAK)]
    assert gate(difference, given={TEST: 0.10, TOKENS: -math.log(0.8)}).passed
    found = gate(difference, given={TEST: 0.09, TOKENS: -math.log(0.81)})
    assert [one.quantity for one in found.regressions] == [TEST, TOKENS]


def test_what_is_measured_no_more_is_not_gated() -> None:
    second = [one.model_copy(update={"memory": ()}) for one in row_of()]
    found = gate(compare(row_of(), second))
    assert [(quantity, why) for _, quantity, why in found.not_gated] == [(PEAK, "not known in B")]


def test_cells_that_are_gone_or_fail_are_regressions_unless_allowed() -> None:
    first = row_of() + [failed(seed_of("broken"))]
    second = [failed(first[0]), *first[1:4]]
    found = gate(compare(first, second))
    assert found.missing == [("full-0", "out_of_memory"), ("full-4", "absent")] and not found.passed
    assert gate(compare(first, second), allow_missing=True).passed


METHODS = ("a", "b", "c", "d")
SEEDS = 5


def drawn(generator: np.random.Generator, shift: float = 0.0) -> dict[tuple[str, int], Record]:
    """Every seed of every method: a score and a speed with independent normal noise, no outcomes and no memory."""
    return {(m, s): light(m, s, generator, shift if m == "a" else 0.0) for m in METHODS for s in range(SEEDS)}


def light(method: str, seed: int, generator: np.random.Generator, shift: float) -> Record:
    spread = 0.01 * (1 + METHODS.index(method))
    quality = Quality.model_construct(test=0.6 + spread * (generator.standard_normal() + shift), outcomes="")
    cost = BLANK_COST.model_copy(
        update={"tokens_per_second": 1000 * math.exp(spread * (generator.standard_normal() + shift))}
    )
    return BLANK.model_copy(update={"name": f"{method}-{seed}", "quality": quality, "cost": cost})


BLANK = seed_of().model_copy(update={"memory": ()})
BLANK_COST = BLANK.cost
assert BLANK_COST


def alarm(generator: np.random.Generator, repeats: int, shift: float = 0.0) -> bool:
    """Whether the gate fails where the first method is `shift` deviations off in the second and all else is noise."""
    first, second = drawn(generator), drawn(generator, shift)
    pairs = {key: Pair(first[key], second[key]) for key in first}
    rows = tuple(Row("", m, "none", tuple(pair for (name, _), pair in pairs.items() if name == m)) for m in METHODS)
    matching = Matching(tuple(pairs.values()), (), (), (0, 0))
    again = [drawn(generator) for _ in range(repeats)]
    runs = {one.name: [run[key] for run in again] for key, one in first.items()}
    return not gate(Difference(matching, rows, {}, [], [], []), runs).passed


@pytest.mark.parametrize("repeats", [0, pytest.param(2, marks=pytest.mark.full)])
def test_where_nothing_changed_the_gate_fails_in_five_per_cent(repeats: int) -> None:
    from scipy.stats import binom

    generator = np.random.default_rng(7)
    count = 600
    alarms = sum(alarm(generator, repeats) for _ in range(count))
    low, high = binom.ppf([5e-4, 1 - 5e-4], count, 0.05)
    assert low <= alarms <= high, f"{alarms} of {count}, expected {low:g} to {high:g}"


@pytest.mark.parametrize(("repeats", "shift"), [(0, -10), (2, -4)])
def test_the_gate_catches_what_is_well_beyond_noise(repeats: int, shift: float) -> None:
    generator = np.random.default_rng(8)
    caught = sum(alarm(generator, repeats, shift) for _ in range(50))
    assert caught >= 45, f"{caught} of 50"


def write(results: Path, made: Sequence[Record]) -> Path:
    for one in made:
        store.write(results, one)
    return results


def test_the_command_ends_with_0_1_and_2(tmp_path: Path) -> None:
    a = write(tmp_path / "a", row_of())
    same = write(tmp_path / "same", row_of())
    worse = write(tmp_path / "worse", row_of(scores=[s - 0.3 for s in SCORES]))
    alone = write(tmp_path / "alone", row_of()[:1])
    other = write(tmp_path / "other", row_of("other"))
    (store.folder(worse) / "broken.json").write_text("{")
    cases: list[tuple[list[str | Path], int, str]] = [
        ([a, worse], 0, "test % 1 moved; dev % 1 moved"),
        ([a, same, "--gate"], 0, "gate: 0 regressions; 3 bounds from measured noise, together 5% false alarms"),
        ([a, store.folder(same), "--gate"], 0, "gate: 0 regressions"),
        ([a, worse, "--gate"], 1, "regression: task · regime · backbone · zero, 2 ranks, full"),
        ([a, worse, "--gate", "--max-quality-drop", "31"], 0, "; 1 as given"),
        ([a, worse, "--gate", "--max-quality-drop", "29"], 1, "allowed -29.00 as given"),
        ([a, worse, "--gate", "--repeats", same], 2, "other than A's own"),
        ([a, alone, "--gate"], 1, "full-1: ok in A, absent in B"),
        ([alone, alone, "--gate"], 2, "no row has two seeds in A and B"),
        ([a, other, "--gate"], 2, "no cell of A is in B"),
        ([a, same, "--max-slowdown", "5"], 2, "expected --gate with them"),
        ([a, same, "--gate", "--max-slowdown", "100"], 2, "--max-slowdown: found 100, expected less than 100"),
        ([a, same, "--gate", "--max-memory-growth", "inf"], 2, "found inf, expected a finite number"),
        ([a, tmp_path], 2, "records: no such folder"),
    ]
    for arguments, status, expected in cases:
        done = call("diff", *arguments)
        said = done.stderr if status == 2 else done.stdout
        assert (done.returncode, expected in said) == (status, True), (arguments, done.returncode, done.stdout, said)
        assert "Traceback" not in done.stderr and ("broken.json" in done.stderr) == (worse in arguments)


def test_the_command_as_json_has_every_row(tmp_path: Path) -> None:
    a = write(tmp_path / "a", row_of() + row_of("lora"))
    b = write(tmp_path / "b", row_of(scores=[s - 0.3 for s in SCORES]) + row_of("lora"))
    done = call("diff", a, b, "--gate", "--json")
    assert done.returncode == 1, done.stderr
    made = json.loads(done.stdout)
    found = {(one["method"], one["quantity"]): one for one in made["changes"]}
    assert len(found) == 2 * 5 and found["lora", TOKENS.name]["ratio"] == 1
    assert found["full", DEV.name]["difference"] == pytest.approx(-0.3)
    (limit,) = [one for one in made["gate"]["limits"] if one["regressed"]]
    assert (limit["method"], limit["quantity"]) == ("full", "test") and limit["b"] < limit["a"] + limit["allowed"]
    assert not made["gate"]["passed"] and str(tmp_path) not in done.stdout
