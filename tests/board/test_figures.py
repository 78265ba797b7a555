"""The figures of a paper show what the records hold, the same bytes each time."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import call
from sample_records import record, weighed

from bench import board
from bench.board import figures
from bench.board.contents import Contents
from bench.records import store
from bench.records.record import Record

LATIN = '<b>a_b% &c ~d^e\\f{g}#h$i ± × [j] * -- "k" `l` | é\n</b>'  # the font has all of its letters


def elsewhere(one: Record) -> Record:
    """The same cell in a setting of another number of steps, which has the same title."""
    return one.model_copy(update={"name": f"{one.name}-11", "cell": {**one.cell, "steps": 11}})


def some() -> list[Record]:
    """A setting with all there is to draw, and one that has costs only, on another number of ranks."""
    made = [weighed("plain", seed=3, method=LATIN, regularizer=LATIN, predicted=4)]
    made += [weighed(f"full-{seed}", seed=seed, method="full") for seed in range(2)]
    cell = {**made[1].cell, "ranks": 1}
    return [*made, made[1].model_copy(update={"name": "alone", "cell": cell, "quality": None})]


def drawn() -> list[Record]:
    """Four settings; two differ in ranks, and two have one title."""
    made = [weighed("plain", task="other", method=LATIN, regularizer=LATIN, predicted=4)]
    made.append(elsewhere(made[0]))
    for ranks in (1, 2):
        for method in ("full", "lora"):
            for seed in range(3):
                one = weighed(f"{method}-{ranks}-{seed}", seed=seed, method=method, cell={"ranks": ranks})
                made.append(one)
    return made


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (some, {"pareto": 2, "seeds": 2, "memory": 4, "scaling": 2}),
        pytest.param(drawn, {"pareto": 8, "seeds": 8, "memory": 8, "scaling": 2}, marks=pytest.mark.full),
    ],
)
def test_figures_of_a_paper_are_the_same_bytes_whatever_the_order_of_records(
    made: Callable[[], list[Record]], expected: dict[str, int], tmp_path: Path
) -> None:
    written, missing = figures.write(Contents(made()), tmp_path / "one")
    again, _ = figures.write(Contents(made()[::-1]), tmp_path / "two")
    assert missing == [] and [file.name for file in written] == [file.name for file in again]
    for one, two in zip(written, again, strict=True):
        assert one.read_bytes() == two.read_bytes(), one
        if one.suffix == ".svg":
            ElementTree.parse(one)
    assert len(set(written)) == len(written)
    kinds = [file.name.partition("-")[0] for file in written]
    assert {kind: kinds.count(kind) for kind in kinds} == expected


def test_figures_that_records_have_nothing_for_are_not_drawn_and_named(tmp_path: Path) -> None:
    written, missing = figures.write(Contents([record("a", test=None)]), tmp_path)
    assert written == [] and [line.partition(" figure")[0] for line in missing] == [
        *("no pareto", "no seeds", "no memory", "no scaling")
    ]
    one = weighed("a")
    assert store.write(tmp_path, one)
    done = call("board", str(tmp_path), "--plots", "--json")
    assert done.returncode == 0 and "no two cells of one method differ in ranks only" in done.stderr
    told = {Path(file).name for file in json.loads(done.stdout)["files"]}
    assert {file.name for file in (tmp_path / "plots").iterdir()} == told - set(board.FORMS)
    assert sum(name.endswith(".png") for name in told) == 3


def test_settings_of_one_title_have_figures_of_their_own(tmp_path: Path) -> None:
    one = weighed("a").model_copy(update={"quality": None})  # of which memory alone is drawn
    written, _ = figures.write(Contents([one, elsewhere(one)]), tmp_path)
    assert len(set(written)) == len(written) == 4
