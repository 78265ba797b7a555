"""Leaderboards: pure functions of records. Nothing here imports torch, cells or methods."""

from __future__ import annotations

from pathlib import Path

from bench import files
from bench.board import claims
from bench.board.csv import csv
from bench.board.markdown import markdown
from bench.board.page import page
from bench.records import Record

__all__ = ["csv", "markdown", "page", "write"]


def write(records: list[Record], folder: Path) -> list[Path]:
    """Every form in `folder`; the same bytes for the same records."""
    forms = {"leaderboard.md": markdown(records), "leaderboard.csv": csv(records), "index.html": page(records)}
    forms["claims.md"] = claims.markdown(claims.verdicts(claims.load(), records))
    for name, content in forms.items():
        files.write(folder / name, content)
    return [folder / name for name in forms]
