"""Leaderboards: pure functions of records. Nothing here imports torch, cells or methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.board import claims
from bench.board.contents import Contents
from bench.board.writers.csv_table import csv
from bench.board.writers.json_data import json
from bench.board.writers.latex import tex
from bench.board.writers.markdown import markdown, whole
from bench.board.writers.page import page, sections
from bench.core import files

__all__ = ["FORMS", "Contents", "csv", "json", "markdown", "page", "tex", "write"]

# name of the file -> what makes it
FORMS: dict[str, Callable[[Contents], str]] = {
    "leaderboard.md": whole,
    "leaderboard.csv": lambda contents: csv(contents.records),
    "leaderboard.tex": tex,
    "leaderboard.json": json,
    "claims.md": lambda contents: claims.markdown(contents.verdicts),
    "index.html": lambda contents: page(contents, sections(contents)),
}


def write(contents: Contents, folder: Path) -> list[Path]:
    """Every form in `folder`; the same bytes for the same records and cards, whatever their order."""
    for name, form in FORMS.items():
        files.write(folder / name, form(contents))
    return [folder / name for name in FORMS]
