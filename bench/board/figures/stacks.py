"""Whose the memory is: the peak of a training step of each row, stacked by owner, beside what was predicted."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from bench.board.contents import Line, Table, short_name
from bench.board.figures.drawing import PALETTE
from bench.board.figures.rows import page
from bench.board.sections.memory import OWNER_COLUMNS, PREDICTED, TRAIN, Sizes, sizes
from bench.board.writers.tables import UNITS, unit

COLOURS = dict(zip(OWNER_COLUMNS.values(), (*PALETTE[:6], "#bbbbbb"), strict=True))
HATCHES = dict(zip(OWNER_COLUMNS.values(), ("", "////", "....", "xxxx", "----", "\\\\\\\\", ""), strict=True))


def shows(table: Table) -> bool:
    """Whether the owners of a row are known."""
    return bool(_known(table))


def _known(table: Table) -> list[tuple[Line, Sizes]]:
    """The rows that have owners, largest peak first."""
    found = [(line, sizes(line.row)) for line in table.lines]
    known = [(line, of) for line, of in found if any(of[owner] for owner in COLOURS)]
    return sorted(known, key=lambda one: (-(one[1][TRAIN] or 0), short_name(one[0].row)))


def draw(table: Table) -> Figure:
    known = _known(table)
    figure, place = page(table.setting.title, [line for line, _ in known], below=0.2)
    size = unit(found[TRAIN] for _, found in known)
    left = [0.0] * len(known)
    for owner, colour in COLOURS.items():
        widths = [(found[owner] or 0) / UNITS[size] for _, found in known]
        if any(widths):
            style: dict[str, Any] = {"color": colour, "hatch": HATCHES[owner], "edgecolor": "white", "linewidth": 0}
            place.barh(range(len(known)), widths, 0.72, left=left, label=owner, **style)
            left = [start + width for start, width in zip(left, widths, strict=True)]
    marks = [(found[PREDICTED] or 0) / UNITS[size] for _, found in known]
    if any(marks):
        shown = [(mark, height) for height, mark in enumerate(marks) if mark]
        place.plot(*zip(*shown, strict=True), "k|", markersize=9, markeredgewidth=1.2, label="predicted")
    place.set_xlabel(f"peak of a training step on the rank that needs most, {size}")
    figure.legend(loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    return figure
