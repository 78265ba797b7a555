"""The results that are committed: anybody makes the same boards of the same records, and README shows what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import ROOT

from bench import board
from bench.records import sample_cards, store

RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boards")
    reading = store.read_all(RESULTS)
    assert not reading.unreadable
    board.write(board.Contents(reading.records, sample_cards.read_all(RESULTS)[0]), folder)
    return folder


@pytest.mark.parametrize("name", sorted(board.FORMS))
def test_boards_are_made_of_the_records_to_the_byte(made: Path, name: str) -> None:
    assert (made / name).read_bytes() == (RESULTS / name).read_bytes()


def test_every_record_is_of_a_commit_without_changes() -> None:
    known = [record.environment for record in store.read_all(RESULTS).records]
    assert all(one is not None and one.commit and one.dirty is False for one in known)


def test_lines_of_tables_in_the_readme_are_those_of_the_boards() -> None:
    shown = (ROOT / "README.md").read_text().partition("## What comes out")[2].partition("## How it works")[0]
    lines = [line for line in shown.splitlines() if line.startswith("| ") and "| :-" not in line]
    boards = (RESULTS / "leaderboard.md").read_text() + (RESULTS / "claims.md").read_text()
    assert lines
    assert not [line for line in lines if line.replace("](results/claims.md#", "](#") not in boards]
