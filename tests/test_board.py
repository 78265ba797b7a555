"""Boards say what the records say, the same bytes each time."""

from __future__ import annotations

import csv
import io
import statistics

import pytest
from test_records import record

from bench import board
from bench.board.grouping import settings


def test_a_row_is_mean_and_sample_deviation_over_seeds() -> None:
    scores = [0.80, 0.90, 0.70]
    (setting,) = settings([record(f"r{i}", seed=i, test=score) for i, score in enumerate(scores)])
    (row,) = setting.rows
    assert row.test.mean == pytest.approx(0.8) and row.test.deviation == pytest.approx(statistics.stdev(scores))
    assert "| 80.0 ± 10.0 |" in board.markdown(list(row.records))


def test_one_seed_has_no_deviation_and_a_failed_one_does_not_count() -> None:
    text = board.markdown([record("a", seed=0, test=0.5), record("b", seed=1, test=None)])
    assert "|   50.0 |" in text and "1 of 2" in text
    assert "## Cells that did not finish" in text and "| failed | train | E: why |" in text


def test_unknown_is_a_dash_never_a_zero() -> None:
    text = board.markdown([record("a", test=None)])
    (row,) = [line for line in text.splitlines() if line.startswith("| method ") and "test %" not in line]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[3:] == ["–", "–", "0 of 1", "–", "–", "–", "–", ""]


def test_settings_are_not_mixed_and_rows_come_best_first() -> None:
    rows = [("full", "bert", 0.6), ("lora", "bert", 0.7), ("full", "gpt2", 0.9)]
    made = settings([record(f"r{i}", test=t, method=m, backbone=b) for i, (m, b, t) in enumerate(rows)])
    assert [[row.method for row in setting.rows] for setting in made] == [["lora", "full"], ["full"]]


def test_the_recipe_is_named_where_rows_would_look_the_same() -> None:
    one, two = record("a", recipe="learning_rate=0.1"), record("b", recipe="")
    two = two.model_copy(update={"cell": {**two.cell, "method": "another recipe"}})
    (setting,) = settings([one, two])
    assert sorted(row.method for row in setting.rows) == ["method (learning_rate=0.1)", "method (own recipe)"]


def test_peak_is_that_of_training_on_the_rank_that_needed_most() -> None:
    (setting,) = settings([record("a")])
    assert setting.rows[0].peak_bytes == 2 * 2**20


def test_cells_of_random_weights_have_costs_and_never_a_score() -> None:
    plain = record("a", method="full")
    cell = {**plain.cell, "weights": "random", "max_length": 64, "attention": "eager", "compile": True}
    shape = plain.model_copy(update={"name": "b", "cell": cell, "quality": None})
    text = board.markdown([shape])
    assert "test %" not in text and "dev %" not in text and "best dev" not in text
    assert "random weights, texts of 64 tokens: costs only, eager attention, compiled" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| full")]
    assert "–" not in row and f"{shape.cost.trainable_parameters:,}" in row
    assert "test %" in board.markdown([plain]) and "attention" not in board.markdown([plain])
    one, two = csv.DictReader(io.StringIO(board.csv([plain, shape])))
    assert (two["weights"], two["attention"], two["compile"], two["test"]) == ("random", "eager", "True", "")
    assert one["weights"] == "" and one["test"] and ",attention," not in board.csv([plain])


def test_markup_in_records_is_harmless() -> None:
    evil = "<script>alert(1)</script> | a * b ` c\nd"
    text = board.markdown([record("a", method=evil, task=evil)])
    assert "<script>" not in text and len([line for line in text.splitlines() if "alert" in line]) == 2


def test_csv_has_a_line_per_cell_with_unrounded_figures() -> None:
    made = [record("b", test=1 / 3), record("a", test=None)]
    failed, done = csv.DictReader(io.StringIO(board.csv(made)))
    assert (failed["name"], failed["status"], failed["test"], failed["failure"]) == ("a", "failed", "", "E: why")
    assert float(done["test"]) == 1 / 3 and done["train_peak_bytes_per_rank"] == str(2 * 2**20)


def test_boards_do_not_depend_on_the_order_of_records() -> None:
    made = [record(f"r{i}", seed=i % 3, test=i / 20, method=f"m{i % 4}", task=f"t{i % 2}") for i in range(20)]
    made.append(record("failed", test=None))
    for form in (board.markdown, board.csv):
        assert form(made) == form(made[::-1])


def test_the_csv_says_what_the_feature_cache_and_each_phase_took() -> None:
    made = record("a")
    assert made.cost is not None
    seconds = {"load": 1.0, "cache": 2.5}
    cost = made.cost.model_copy(
        update={"data_wait_share": 0.25, "feature_cache_bytes": 10, "feature_cache_built": 3, "seconds": seconds}
    )
    cached = made.model_copy(update={"cost": cost, "cell": {**made.cell, "feature_cache": True}})
    (row,) = csv.DictReader(io.StringIO(board.csv([cached])))
    assert (row["feature_cache_bytes"], row["feature_cache_built"], row["data_wait_share"]) == ("10", "3", "0.25")
    assert (row["load_seconds"], row["cache_seconds"], row["attack_seconds"]) == ("1.0", "2.5", "")
    (setting,), (plain,) = settings([cached]), settings([made])
    assert setting.details == f"{plain.details}, feature cache"
