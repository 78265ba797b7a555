"""What the forms of the board have beside their tables: LaTeX, JSON, every figure as CSV, papers, cards."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from runs import call
from sample_records import record, tables, weighed

from bench import board
from bench.board.analysis.grouping import settings
from bench.board.contents import Contents
from bench.board.sections import published, samples
from bench.records import sample_cards, store
from bench.records.record import OWNERS, Environment, Failure, Predicted, Record, Surface, Surfaces
from bench.records.sample_cards import Card

EVIL = '<b>a_b% &c ~d^e\\f{g}#h$i ± × [j] * -- "k" `l` | 中\n</b>'


def scored(method: Any, seed: int, right: int, of: int = 40, **changes: Any) -> Record:
    """A finished record with so many right answers; `method`, `regularizer`: of the cell, labelled by their kinds."""
    regularizer, sample = changes.pop("regularizer", "none"), changes.pop("sample", f"s{seed}")
    kinds = [one["kind"] if isinstance(one, dict) else one for one in (method, regularizer)]
    name = "-".join(map(str, (*kinds, seed, *changes.values())))
    made = record(name, seed, right / of, method=kinds[0], regularizer=kinds[1], **changes)
    assert made.quality is not None
    outcomes = "1" * right + "0" * (of - right)
    quality = made.quality.model_copy(update={"outcomes": outcomes, "sample": sample})
    return made.model_copy(
        update={"cell": {**made.cell, "method": method, "regularizer": regularizer}, "quality": quality}
    )


def table_of_two() -> list[Record]:
    """One method that is plainly better, one that is not and has a regularized row beside it."""
    rows = [("good", "none", 38, 1), ("bad", "none", 20, 2), ("bad", "noise", 21, 2)]
    return [
        scored(method, seed, right + seed**power % (power + 1), regularizer=regularizer)
        for method, regularizer, right, power in rows
        for seed in range(5)
    ]


def bare(tex: str) -> str:
    """LaTeX without comments and escaped characters: what is left of `&%#{}` has its own meaning."""
    return re.sub(r"\\[&%$#_{},\\ ]", lambda match: "\n" if match[0] == "\\\\" else "", re.sub(r"(?m)^%.*$", "", tex))


def test_tables_for_latex_are_whole_and_strings_from_records_mean_themselves() -> None:
    made = [*table_of_two(), *(scored(EVIL, seed, 30, task=EVIL, regularizer=EVIL) for seed in range(2))]
    tex = board.tex(Contents(made))
    depth = 0
    for character in bare(tex):
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert tex.count(r"\begin{table*}") == tex.count(r"\end{table*}") == 4, "quality and stability of each setting"
    for columns, body in re.findall(r"\\begin{tabular}{@{}(\w+)@{}}\n\\toprule\n(.*?)\\bottomrule", tex, re.S):
        for line in body.replace("\\midrule\n", "").splitlines():
            assert line.endswith(r" \\") and bare(line).count("&") == len(columns) - 1, line
    for character in '_%#$^~|<>[]*"`中±×–':  # in no place where a record's string is
        for line in tex.splitlines():
            if r"textasciitilde" in line and r"\caption" not in line:
                left = re.sub(r"\\[%&#$_{}]|\\[a-zA-Z]+|{[\[\]*]}", "", line)
                assert character not in left, (character, line)
    assert "U+4E2D" in tex and r"a\_b\%" in tex and r"\textbackslash{}f\{g\}\#h\$i" in tex and "-{}-" in tex


def test_the_best_group_is_bold_in_latex_and_the_caption_says_so() -> None:
    tex = board.tex(Contents(table_of_two()))
    assert r"\textbf{1} & \textbf{good} & \textbf{none} & \textbf{96.0 \ensuremath{\pm} 1.4} & {[}" in tex
    assert r"\textbf{bad}" not in tex and "first rank are bold" in tex and "could have detected" in tex
    (row,) = [line for line in tex.splitlines() if line.startswith("bad & noise")]
    assert row.split(" & ")[6] == "1.00", "the ratio of standard deviations that are the same"


def test_json_has_what_the_board_shows_unrounded() -> None:
    made = [*table_of_two(), weighed("w", task="weighed", predicted=4), record("failed", test=None, task="failed")]
    text = board.json(Contents(made))
    data = json.loads(text)
    assert data["schema"] == 1 and list(data) == sorted(data)
    failed, first, heavy = data["settings"]
    assert (first["task"], failed["task"], heavy["task"]) == ("task", "failed", "weighed")
    good, noisy, bad = first["rows"]
    assert (good["method"], good["rank"], bad["rank"], noisy["regularizer"]) == ("good", 1, 2, "noise")
    tests = [one["test"] for one in good["seeds"]]
    assert tests == [0.95, 0.975, 0.95, 0.975, 0.95] and good["test"]["mean"] == pytest.approx(sum(tests) / 5)
    assert good["seeds"][0]["record"] == "good-none-0" and good["test"]["minimum"] == 0.95
    low, high = good["test"]["interval"]
    assert 0.94 <= low < good["test"]["mean"] < high <= 0.98
    assert bad["stability"] is None and noisy["stability"]["deviation_ratio"] == pytest.approx(1)
    assert heavy["rows"][0]["memory_bytes"]["train_peak"] == 5 * 2**20
    assert heavy["rows"][0]["memory_bytes"]["predicted"] == 4 + 2**20
    assert [one["record"] for one in data["failures"]] == ["failed"] and data["failures"][0]["phase"] == "train"
    assert sum('"interquartile_mean"' in line for line in text.splitlines()) == 5, "a line for each row"


def full_record() -> Record:
    """Every field has a value that no other has."""
    made = weighed("all", (3001, 5003), predicted=7001, reserved=6007)
    assert made.quality is not None and made.cost is not None
    cell = {**made.cell, "protocol": "lpt", "tuning": {"role": "report", "candidate": "rate=1", "seeds": [9]}}
    surface = Surface(radius=0.17, loss=((1.5, 2.5), (3.5, 4.5)), rise=0.271, slope=0.373, curvature=0.479)
    weights = surface.model_copy(update={"radius": 0.19, "rise": 0.29, "slope": 0.39, "curvature": 0.49})
    quality = made.quality.model_copy(
        update={"stopped_step": 77, "examples": {"train": 101, "dev": 103, "test": 107}, "constant": 0.521}
    )
    cost = made.cost.model_copy(
        update={
            **{"forward_equivalents": 2.13, "flops": 1.1e9, "mfu": 0.331, "joules": 12.7, "data_wait_share": 0.043},
            **{"feature_cache_bytes": 11003, "feature_cache_built": 17},
            "seconds": {"load": 0.5, "setup": 0.6, "cache": 0.61, "train": 0.9, "evaluate": 0.8, "save": 0.7},
        }
    )
    device = {
        phase: {"parameters": 5000 + n, "other": 6000 + n} for n, phase in enumerate(("setup", "train", "evaluate"))
    }
    environment = Environment(
        **{"commit": "c0ffee", "dirty": True, "versions": {"torch": "2.99"}, "hosts": ("host-a", "host-b")},
        **{"accelerator": "gpu", "threads": 19, "kernels": "compiled", "launcher": "starter"},
    )
    failure = Failure(
        **{"phase": "save", "rank": 23, "host": "host-c", "exception": "E: why\nmore", "step": 29},
        **{"bytes_asked": 31013, "bytes_free": 31019, "inferred_from": "witness", "log": ("line",)},
    )
    update = {
        **{"cell": cell, "quality": quality, "cost": cost, "environment": environment, "failure": failure},
        "landscape": Surfaces(examples=64, embeddings=surface, weights=weights),
        "predicted": Predicted(tokens=7013, device=device, host={"optimizer_state": 8009}),
    }
    return made.model_copy(update=update)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """What a record holds, by path."""
    if isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {place: leaf for key, one in pairs for place, leaf in leaves(one, f"{path}.{key}").items()}
    return {path: value}


# of what the CSV has nothing: lists, and what its columns say in another way
APART = re.compile(
    r"\.(schema_version|cell\.tuning\.seeds.*|quality\.(outcomes|predicted|curve.*)|landscape\.\w+\.loss.*|failure\.log.*"
    r"|memory\.\d+\.(rank|host|phase))"
)


def test_the_csv_has_every_figure_of_a_record() -> None:
    made = full_record()
    (line,) = csv.DictReader(io.StringIO(board.csv([made])))
    shown = " ".join(line.values())
    missing = {
        path: value
        for path, value in leaves(made.model_dump(mode="json")).items()
        if value not in (None, "", 0) and not APART.fullmatch(path) and str(value).partition("\n")[0] not in shown
    }
    # of the rank that needs least the train peak alone
    assert missing.keys() <= {f".memory.{place}.owners.{owner}" for place in range(3) for owner in OWNERS}
    (other,) = csv.DictReader(io.StringIO(board.csv([record("other", test=None)])))
    assert other.keys() == line.keys() - {"test_accuracy"}, "columns do not depend on what is known"


def published_rows() -> list[Record]:
    changes = {"backbone": "roberta-large", "task": "sst2", "regime": "full"}
    made = [scored({"kind": "full"}, seed, 38 + seed, **changes) for seed in range(2)]
    made += [scored({"kind": "full"}, 0, 39, regularizer={"kind": "noise"}, **changes)]
    made += [scored({"kind": "full"}, 0, 39, **{**changes, "backbone": "bert-base"})]
    late = {"kind": "late_prompt", "generator": "naive", "length": 5, "bottleneck": 128, "depth": 12}
    one = scored(late, 0, 39, **changes)
    assert one.cost is not None
    return [*made, one.model_copy(update={"cost": one.cost.model_copy(update={"trainable_parameters": 791_000})})]


def test_published_numbers_are_beside_ours_only_where_all_that_names_them_is_the_same() -> None:
    made = published_rows()
    found = published.comparisons(settings(made), published.shipped())
    assert {one.row.records[0].labels.backbone for one in found} == {"roberta-large"}
    assert {one.row.regularizer for one in found} == {"none"}, "no paper's number has ours"
    quoted = [one for one in found if one.figure.printed == "95.4±1.3"]
    (one,) = quoted
    assert one.ours.mean == pytest.approx(96.25) and one.difference == pytest.approx(0.85)
    assert not one.comparison.same_protocol and one.comparison.differs
    (counted,) = [one for one in found if one.figure.printed == "792K"]
    assert counted.comparison.same_protocol and counted.difference == -1000
    text = board.markdown(made)
    lines = [row for table in tables(text) for row in table if "protocol" in row]
    (shown,) = [row for row in lines if row["published"] == "95.4±1.3"]
    assert (shown["ours"], shown["difference"]) == ("96.2 ± 1.8", "+0.8") and shown["protocol"].startswith("other: ")
    (same,) = [row for row in lines if row["published"] == "792K"]
    assert (same["ours"], same["difference"], same["protocol"]) == ("791,000", "-1,000", "same")
    assert f"1. {one.comparison.differs[0]}" in text or one.comparison.differs[0] in text
    data = json.loads(board.json(Contents(made)))
    assert len(data["published"]) == len(found) and r"95.4\ensuremath{\pm}1.3" in board.tex(Contents(made))


def test_numbers_of_other_backbones_stand_apart_and_are_compared_with_nothing() -> None:
    made = [scored({"kind": "full"}, 0, 30, backbone="minilm", task="sst2", regime="total-100")]
    data = json.loads(board.json(Contents(made)))
    around = data["published_context"]
    assert data["published"] == [] and {one["backbone"] for one in around} >= {"RoBERTa-large"}
    assert {one["task"] for one in around} <= {"SST-2", None} and all(one["evidence"] == "read" for one in around)
    text = board.markdown(made)
    assert "it compares nothing" in text and "| difference |" not in text
    (row,) = [row for table in tables(text) for row in table if row.get("sst2") == "95.4±1.3"]
    assert (row["method"], row["backbone"]) == ("Fine-tuning", "RoBERTa-large")
    assert published.HEADING not in board.markdown(table_of_two()), "of these tasks nobody published anything"


def card(sample: str, seed: int) -> Card:
    classes = {"bad": (8, 16, 30), "good": (8, 16, 31)}
    return Card(
        **{"sample": sample, "task": "task", "regime": "regime", "seed": seed, "origin": "built-in", "data": "d"},
        **{"train": (1, 2), "dev": (3,), "classes": classes},
    )


def test_cards_say_what_each_seed_trained_on() -> None:
    made = [scored(method, seed, 30) for method in ("a", "b") for seed in (0, 1)]
    text = board.markdown(made, cards=[card("s0", 0)])
    one, two = tables(text)[-1]
    assert one == {
        **{"task": "task", "regime": "regime", "seed": "0", "sample": "s0", "origin": "built-in", "cells": "2"},
        "train/dev/test by class": "bad 8/16/30, good 8/16/31",
    }
    assert two["train/dev/test by class"] == "–", "there is no card of it"
    data = json.loads(board.json(Contents(made, [card("s0", 0)])))
    assert data["samples"][0]["classes"]["good"] == [8, 16, 31] and data["samples"][1]["classes"] is None
    assert samples.HEADING not in board.markdown(made)


def test_the_board_says_where_methods_were_trained_on_different_examples() -> None:
    made = [scored(method, seed, 30, sample=f"s{seed}") for method in ("a", "b") for seed in (2, 3)]
    assert "different examples" not in board.markdown(made)
    made.append(scored("c", 3, 30, sample="other"))
    expected = "eed 3: methods were trained on different examples: other c; s3 a, b"
    assert f"**S{expected}.**" in board.markdown(made)
    assert f"S{expected}." in board.tex(Contents(made))
    (setting,) = json.loads(board.json(Contents(made)))["settings"]
    assert setting["warnings"] == [f"s{expected}"]


def test_the_command_reads_cards_and_names_what_is_none(tmp_path: Path) -> None:
    assert store.write(tmp_path, scored("a", 0, 30))
    sample_cards.write(tmp_path, card("s0", 0))
    for name, content in (("empty", "{}"), ("text", "no"), ("s9", card("s1", 1).model_dump_json())):
        (tmp_path / "cards" / f"{name}.json").write_text(content)
    done = call("board", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "bad 8/16/30" in (tmp_path / "leaderboard.md").read_text()
    first, second, third = sorted(line for line in done.stderr.splitlines() if line.startswith("left out: "))
    assert "empty.json: sample: Field required" in first and "s9.json: its sample is s1" in second
    assert "text.json: " in third
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == set(board.FORMS)
