"""Boards say what the records say, the same bytes each time."""

from __future__ import annotations

import csv
import io
import itertools
import statistics
from typing import Any

import pytest
from sample_records import GIB, MIB, record, tables, weighed

from bench import board
from bench.board.analysis.grouping import settings
from bench.board.sections.zero import HEADING
from bench.board.writers.tables import text as escape
from bench.records.record import OWNERS, Failure, Record

NVME = {"config": {"zero_optimization": {"offload_optimizer": {"device": "nvme"}}}}


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
    assert "<details>" not in text, "of nothing nothing is shown"
    row = tables(text)[0][0]
    assert [*row.values()] == ["–", "method", "regularizer", "–", "–", "–", "0 of 1", "–", "–", "–", "–"]


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
    row, *_ = [line for line in text.splitlines() if line.startswith("| full")]
    assert "–" not in row and f"{shape.cost.trainable_parameters:,}" in row
    assert "test %" in board.markdown([plain]) and "attention" not in board.markdown([plain])
    one, two = csv.DictReader(io.StringIO(board.csv([plain, shape])))
    assert (two["weights"], two["attention"], two["compile"], two["test"]) == ("random", "eager", "True", "")
    assert (one["weights"], one["attention"], one["compile"]) == ("pretrained", "sdpa", "False") and one["test"]


def test_markup_in_records_is_harmless() -> None:
    evil = "<script>alert(1)</script> | a * b ` c\nd"
    one = weighed("a", method=evil, task=evil, regularizer=evil)
    other = weighed("b", method=evil, task=evil, regularizer=evil, zero=evil, cell={"zero": evil})
    text = board.markdown([one, other])
    assert "<script>" not in text
    rows = [row for table in tables(text) for row in table]  # as many cells as columns, or it raises
    assert len(rows) == 8 and all("alert" in row["method"] and "alert" in row["regularizer"] for row in rows)
    assert escape("a\\|b\r[c](d)") == r"a\\\|b \[c](d)"


def test_csv_has_a_line_per_cell_with_unrounded_figures() -> None:
    made = [record("b", test=1 / 3), record("a", test=None)]
    failed, done = csv.DictReader(io.StringIO(board.csv(made)))
    assert (failed["name"], failed["status"], failed["test"], failed["failure"]) == ("a", "failed", "", "E: why")
    assert float(done["test"]) == 1 / 3 and done["train_peak_bytes_per_rank"] == str(2 * 2**20)


def test_boards_do_not_depend_on_the_order_of_records() -> None:
    made = [record(f"r{i}", seed=i % 3, test=i / 20, method=f"m{i % 4}", task=f"t{i % 2}") for i in range(20)]
    made += [record("failed", test=None), *configurations()]
    for name, form in board.FORMS.items():
        assert form(board.Contents(made)) == form(board.Contents(made[::-1])), name


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


def test_memory_is_that_of_the_seed_and_rank_that_need_most_by_owner() -> None:
    made = [weighed("a", seed=0), weighed("b", (7 * MIB, 8 * MIB), seed=1), record("c", seed=2, test=None)]
    (row,) = tables(board.markdown(made[:2]))[2]
    owned = {"parameters": "4.0", "activations": "4.0"}
    peaks = {"train peak": "8.0", "least of the ranks": "7.0", "evaluate peak": "9.0", "set-up peak": "8.0"}
    assert row == {"method": "method", "regularizer": "regularizer", **owned, **peaks}, "no column without a size"
    assert tables(board.markdown(made))[2] == [row], "what failed has none"


def test_sizes_that_are_too_small_to_show_are_no_zeros_and_large_ones_are_in_gib() -> None:
    made = [weighed("a", (2 * 1024,), method="small"), weighed("b", (0,), method="nothing")]
    _, rows, _ = tables(board.markdown(made))
    assert [row["parameters"] for row in rows] == ["0", "<0.1"]
    text = board.markdown([*made, weighed("c", (10 * GIB,), method="large")])
    rows = tables(text)[1]
    assert "needs most, GiB" in text and [row["train peak"] for row in rows] == ["10.00", "0", "<0.01"]


def test_a_prediction_is_compared_with_the_train_peak() -> None:
    rows = [
        weighed("a", (10 * MIB,), method="gpu", predicted=9 * MIB, reserved=1),
        weighed("b", (10 * MIB,), method="host", predicted=9 * MIB),
        weighed("c", (10 * MIB,), method="not predicted"),
        weighed("d", (10 * MIB,), method="nvme", predicted=9 * MIB, cell={"zero": NVME}),
    ]
    shown = {row["method"]: row for found in tables(board.markdown(rows)) for row in found if "predicted" in row}
    assert {name: (row["predicted"], row["predicted / measured"]) for name, row in shown.items()} == {
        "gpu": ("9.0", "0.90"),
        "host": ("10.0", "1.00"),  # host memory is measured with the rest where there is no GPU
        "not predicted": ("–", "–"),
        "nvme": ("–", "–"),
    }
    assert "bench plan" in board.markdown(rows) and "bench plan" not in board.markdown(rows[2:3])


def test_speed_leaves_out_what_nobody_knows() -> None:
    one, other = record("a", method="one"), record("b", method="other")
    assert one.cost is not None
    more = {"flops": 2e9, "mfu": 0.345, "joules": 12.34, "data_wait_share": 0.021, "seconds": {"load": 1, "train": 2.5}}
    text = board.markdown([one.model_copy(update={"cost": one.cost.model_copy(update=more)}), other])
    known, unknown = tables(text)[2]
    assert [*known.values()][2:] == [
        "1,000",
        "10.0",
        "1.0",
        "2.0",
        "3.0",
        "2.00",
        "34.5",
        "12.3",
        "2.1",
        "1.00",
        "2.50",
    ]
    assert [*unknown.values()][2:] == ["1,000", "10.0", "1.0", "2.0", "3.0", "–", "–", "–", "–", "–", "1.00"]
    assert "GFLOP/step" in known
    assert not {"MFU %", "joules/step", "GFLOP/step", "load s"} & tables(board.markdown([other]))[2][0].keys()


def cached(name: str, seed: int, built: int, seconds: float) -> Record:
    made = record(name, seed=seed)
    assert made.cost is not None
    cost = made.cost.model_copy(update={"feature_cache_built": built, "seconds": {"cache": seconds}})
    return made.model_copy(update={"cost": cost, "cell": {**made.cell, "feature_cache": True}})


def test_building_the_feature_cache_is_in_one_figure_alone() -> None:
    column = "samples/s with the cache's building"
    made = [cached("a", 0, 100, 8.0), cached("b", 1, 3, 0.5), cached("c", 2, 0, 0.1)]
    text = board.markdown(made)
    (row,) = tables(text)[3]
    # 10 steps of 8 examples at 10 a second take 8 s, and as long again where most was built
    assert (row["samples/s"], row[column]) == ("10.0", "5.0") and "had to compute" in text
    assert column not in board.markdown(made[2:]), "it was there already"


def configurations() -> list[Record]:
    made = []
    for zero, ranks, method in itertools.product(("zero2", "zero3"), (2, 4), ("full", "lora")):
        cell = {"zero": {"name": zero}, "ranks": ranks}
        made.append(weighed(f"{method}-{zero}-{ranks}", method=method, zero=zero, cell=cell, predicted=4 * MIB))
    return made


def test_configurations_are_side_by_side_only_where_there_are_several() -> None:
    made = configurations()
    text = board.markdown(made, details=False)
    *settings_tables, rows = tables(text)
    assert len(settings_tables) == 4 and "### task · regime · backbone\n" in text
    expected = [(m, z, r) for m in ("full", "lora") for z in ("zero2", "zero3") for r in ("2", "4")]
    assert [(row["method"], row["ZeRO"], row["ranks"]) for row in rows] == expected
    assert rows[0]["train peak"] == "5.0" and rows[0]["predicted / measured"] == "1.00" and "parameters" not in rows[0]
    assert "parameters" in tables(board.markdown(made))[-1][0], "with details by owner"
    assert HEADING not in board.markdown([one for one in made if one.labels.zero == "zero2" and one.cell["ranks"] == 2])
    elsewhere = made[-1].model_copy(update={"cell": {**made[-1].cell, "zero": {"name": "zero3"}, "steps": 11}})
    assert HEADING not in board.markdown([made[0], elsewhere]), "they differ in more than that"


def test_a_configuration_that_ran_out_of_memory_stays_in_its_table() -> None:
    made = configurations()[:4]
    failed = made[0].model_copy(update={"status": "out_of_memory", "cost": None, "memory": (), "quality": None})
    rows = tables(board.markdown([failed, *made[1:]], details=False))[-2]
    assert [row["status"] for row in rows] == ["out_of_memory", "ok", "ok", "ok"]
    assert (rows[0]["train peak"], rows[0]["predicted"], rows[0]["tokens/s"]) == ("–", "4.0", "–")


def test_configurations_of_one_name_are_told_apart() -> None:
    made = [
        weighed(str(size), cell={"zero": {"name": "mine", "config": {"bucket": size}}}, zero="mine") for size in (1, 2)
    ]
    names = {row["ZeRO"] for row in tables(board.markdown(made))[-1]}
    assert len(names) == 2 and all(name.startswith("mine ") for name in names)


def test_failures_say_what_was_asked_for_and_which_record_shows_it() -> None:
    def failed(name: str, status: str, **more: Any) -> Record:
        failure = Failure(phase="start", rank=None, host=None, exception="why\nmore", **more)
        return record(name, test=None).model_copy(update={"status": status, "failure": failure})

    plain = failed("a", "failed", bytes_free=GIB)
    assert "free" not in tables(board.markdown([plain]))[-1][0]
    real = failed("b", "out_of_memory", bytes_asked=20 * MIB, bytes_free=3 * GIB)
    inferred = failed("c", "out_of_memory", inferred_from="b")
    foreseen = failed("d", "predicted_out_of_memory", bytes_asked=90 * GIB, bytes_free=80 * GIB)
    rows = tables(board.markdown([foreseen, inferred, real, plain]))[-1]
    shown = [(row["cell"], row["status"], row["asked"], row["free"], row["why"]) for row in rows]
    assert shown == [
        ("a", "failed", "–", "–", "why"),
        ("b", "out_of_memory", "20.0 MiB", "3.00 GiB", "why"),
        ("c", "out_of_memory", "–", "–", "inferred from b: why"),
        ("d", "predicted_out_of_memory", "90.00 GiB", "80.00 GiB", "why"),
    ]
    lines = list(csv.DictReader(io.StringIO(board.csv([inferred, real]))))
    assert [line["failure_inferred_from"] for line in lines] == ["", "b"]
    assert lines[0]["failure_bytes_asked"] == str(20 * MIB)


def test_without_details_there_are_main_tables_only() -> None:
    text = board.markdown([weighed("a"), weighed("b", method="other")], details=False)
    assert len(tables(text)) == 1 and "<details>" not in text and "Under each table" not in text
    assert "<details>\n<summary>Memory and speed</summary>\n\nMemory" in board.markdown([weighed("a")])


def test_the_csv_has_the_owners_of_the_rank_that_needs_most_in_each_phase() -> None:
    (line,) = csv.DictReader(io.StringIO(board.csv([weighed("a", predicted=4 * MIB)])))
    for phase, peak in (("setup", 5 * MIB), ("train", 5 * MIB), ("evaluate", 6 * MIB)):
        assert sum(int(line[f"{phase}_{owner}_bytes"]) for owner in OWNERS) == peak
        assert line[f"{phase}_peak_bytes_per_rank"] == str(peak)
    assert line["train_peak_bytes_least_rank"] == str(3 * MIB)
    assert (line["predicted_train_peak_bytes"], line["predicted_host_bytes"]) == (str(4 * MIB), str(MIB))
    (line,) = csv.DictReader(io.StringIO(board.csv([record("b", test=None)])))
    assert line["train_activations_bytes"] == line["predicted_train_peak_bytes"] == ""
