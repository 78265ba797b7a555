"""Boards, figures and `bench landscape` show the loss surfaces that the records hold."""

from __future__ import annotations

import csv
import io
import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from matplotlib.collections import Collection
from runs import call
from sample_records import record
from sample_surfaces import measured, surfaces

from bench import board
from bench.board.figures import drawing, figures
from bench.board.sections.surfaces import sheets
from bench.records import store
from bench.records.record import Record, Surfaces
from bench.training.landscape import grid


def several() -> list[Record]:
    made = [measured(f"a{seed}", 0.5 + seed / 10, seed=seed) for seed in range(3)]
    return [*made, measured("b", 2.0, regularizer="noise sigma=1"), measured("c", 1.0, method="lora")]


EVIL = "$\\frac{1}$ <script> --> & [red]x[/] " + "long " * 20


def few() -> list[Record]:
    """One setting, and surfaces of embeddings alone."""
    setting = {"task": EVIL, "weights": False}
    made = [measured(f"a{seed}", 0.5 + seed, seed=seed, **setting) for seed in range(2)]
    return [*made, measured("evil", method=EVIL, regularizer=EVIL, **setting), measured("failed", test=None, **setting)]


def many() -> list[Record]:
    """Two settings."""
    made = [*several(), measured("evil", method=EVIL, regularizer=EVIL), measured("evil2", task=EVIL, method=EVIL)]
    return [*made, measured("failed", test=None)]


def test_boards_show_sharpness_where_it_was_measured() -> None:
    rises = [surfaces(height).embeddings.rise or 0 for height in (0.5, 0.6, 0.7)]
    assert rises == pytest.approx([1.5, 1.8, 2.1])
    text = board.markdown(several()[:3])
    assert "sharpness" in text and "| 1.80 ± 0.30 |" in text and "landscape of radius 2.0: 5 x 5 points" in text
    mixed = board.markdown([*several(), record("other", task="t2")])
    assert mixed.count(" sharpness |") == 1, "not in the table of the other task"
    assert "harpness" not in board.markdown([record("a")])
    (line,) = csv.DictReader(io.StringIO(board.csv([measured("a")])))
    assert float(line["landscape_weights_rise"]) == pytest.approx(1.5) and line["landscape_embeddings_grid"] == "5"
    (line,) = csv.DictReader(io.StringIO(board.csv([record("a")])))
    assert line["landscape_embeddings_rise"] == ""


def test_a_panel_is_the_mean_over_seeds() -> None:
    found = sheets(several())
    assert [(sheet.kind, len(sheet.panels)) for sheet in found] == [("embeddings", 3), ("weights", 3)]
    lora, none, noise = found[0].panels
    assert (lora.method, none.seeds, noise.regularizer) == ("lora", 3, "noise sigma=1")
    assert none.loss[0][0] == pytest.approx(1 + 0.6 * 2) and none.rise.mean == pytest.approx(1.8)
    assert found[0].limits == (-3, 13)


def test_all_panels_have_one_colour_scale() -> None:
    sheet = sheets(several())[0]
    for draw in figures.FORMS.values():
        axes = [one for one in draw(sheet).axes if one.get_xlabel()]
        assert len(axes) == 3
        filled = [next(c for c in one.collections if isinstance(c, Collection)) for one in axes]
        assert {(float(c.norm.vmin), float(c.norm.vmax)) for c in filled} == {(-3.0, 13.0)}


@pytest.mark.parametrize(
    ("made", "kinds", "settings"),
    [(few, ["embeddings"], 1), pytest.param(many, ["embeddings", "weights"], 2, marks=pytest.mark.full)],
)
def test_figures_are_the_same_bytes_twice_and_markup_in_labels_is_harmless(
    made: Callable[[], list[Record]], kinds: list[str], settings: int, tmp_path: Path
) -> None:
    written = figures.write(sheets(made()), tmp_path / "one")
    again = figures.write(sheets(made()[::-1]), tmp_path / "two")
    assert len(written) == len(set(written)) == 4 * settings * len(kinds)
    for one, two in zip(written, again, strict=True):
        assert one.name == two.name and one.read_bytes() == two.read_bytes(), one
        if one.suffix == ".svg":
            ElementTree.parse(one)
    names = {file.name for file in written}
    for kind in kinds:
        assert any(name.startswith(f"landscape-{kind}-") and name.endswith("-3d.png") for name in names)


@pytest.mark.parametrize("lost", [0, 12, 25])
def test_what_is_flat_or_not_finite_is_drawn_without_a_warning(lost: int) -> None:
    flat = grid.surface([math.nan] * lost + [1.0] * (25 - lost), 1.0)
    made = record("flat", method="flat", landscape=Surfaces(examples=1, embeddings=flat))
    (alone,) = sheets([made])
    assert all(drawing.rendered(partial(draw, alone)) for draw in figures.FORMS.values())
    other = measured("other", 0.01, method="other")
    other = other.model_copy(update={"cell": {**made.cell, "method": "other"}})
    (sheet, _) = sheets([made, other])
    assert len(sheet.panels) == 2 and all(drawing.rendered(partial(draw, sheet)) for draw in figures.FORMS.values())


@pytest.mark.parametrize("panels", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13])
def test_panels_fill_a_sensible_grid(panels: int) -> None:
    (sheet,) = [s for s in sheets(several()) if s.kind == "weights"]
    many = replace(sheet, panels=tuple(replace(sheet.panels[0], method=f"m{i}") for i in range(panels)))
    rows = -(-panels // many.columns)
    assert many.columns <= 4 and rows * many.columns - panels < many.columns
    product = [replace(sheet.panels[0], method=m, regularizer=r) for m in "ab" for r in ("none", "x", "y")]
    assert replace(sheet, panels=tuple(product)).columns == 3, "a row for each method"


def test_the_command_writes_figures_and_says_when_there_is_nothing(tmp_path: Path) -> None:
    store.write(tmp_path, record("plain"))
    nothing = call("landscape", tmp_path)
    assert nothing.returncode == 2 and "no record has a landscape" in nothing.stderr
    assert len(nothing.stderr.splitlines()) == 1 and "no such folder" in call("landscape", tmp_path / "none").stderr
    for one in several()[:3]:
        store.write(tmp_path, one)
    done = call("landscape", tmp_path, "--out", tmp_path / "figures", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {Path(file).name for file in told["files"]} == {file.name for file in (tmp_path / "figures").iterdir()}
    assert len(told["surfaces"]) == 2 and told["surfaces"][0]["rise"] == pytest.approx(1.8)


def test_the_command_shows_a_line_for_each_surface_and_the_files(tmp_path: Path) -> None:
    store.write(tmp_path, measured("a", 0.6, weights=False))
    done = call("landscape", tmp_path)
    assert done.returncode == 0, done.stderr
    head, line, *files = done.stdout.splitlines()
    assert head.split()[:2] == ["setting", "surface"] and "1.8" in line, done.stdout
    assert set(files) == {str(file) for file in tmp_path.glob("landscape-*")} and len(files) == 4
