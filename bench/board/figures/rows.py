"""A figure with a line for each row of a table: names on the left, a scale below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from bench.board.contents import Line, short_name
from bench.board.figures.drawing import WIDTH

ROW, REST = 0.2, 0.75  # inches


def page(title: str, lines: Sequence[Line], below: float = 0.0) -> tuple[Figure, Any]:
    """A figure and its axes, the first line on top; `below`: inches for a legend."""
    figure = Figure((WIDTH, REST + below + ROW * len(lines)), layout="constrained")
    place: Any = figure.subplots()
    place.set_yticks(range(len(lines)), [_name(line) for line in lines], fontsize=7)
    place.set_ylim(len(lines) - 0.5, -0.5)
    place.tick_params(axis="y", length=0)
    place.grid(axis="x", color="#e5e5e5", linewidth=0.5)
    place.set_axisbelow(True)
    for side in ("top", "right", "left"):
        place.spines[side].set_visible(False)
    figure.suptitle(title, fontsize=8)
    return figure, place


def _name(line: Line) -> str:
    return textwrap.shorten(short_name(line.row), 70, placeholder=" …")
