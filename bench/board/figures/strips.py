"""Each seed of each row as a point, with the mean and its interval."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.board.contents import Table
from bench.board.figures.drawing import PALETTE
from bench.board.figures.rows import page

SEED, MEAN = PALETTE[0], PALETTE[1]
BEST = "#eef3f8"  # behind rows of the first rank

SEEDS: dict[str, Any] = {
    **{"marker": "o", "markersize": 3.6, "markerfacecolor": "none", "markeredgecolor": SEED, "markeredgewidth": 0.9},
    "linestyle": "none",
}
MEANS: dict[str, Any] = {"marker": "|", "markersize": 9, "markeredgewidth": 1.6, "color": MEAN, "linestyle": "none"}


def shows(table: Table) -> bool:
    """Whether a row has a score."""
    return any(line.row.scores for line in table.lines)


def draw(table: Table) -> Figure:
    lines = [line for line in table.lines if line.row.scores]
    figure, place = page(table.setting.title, lines, below=0.2)
    for height, line in enumerate(lines):
        if line.rank == 1:
            place.axhspan(height - 0.5, height + 0.5, color=BEST, linewidth=0, zorder=0)
        if line.row.interval is not None:
            ends = [100 * line.row.interval.low, 100 * line.row.interval.high]
            place.plot(ends, [height, height], color=MEAN, linewidth=2.2, solid_capstyle="butt", alpha=0.55, zorder=2)
        place.plot([100 * value for value in line.row.scores], [height] * len(line.row.scores), **SEEDS, zorder=3)
        place.plot([100 * (line.row.test.mean or 0.0)], [height], **MEANS, zorder=4)
    place.set_xlabel("test %")
    handles = [Line2D([], [], label="seed", **SEEDS), Line2D([], [], label="mean", **MEANS)]
    handles.append(Line2D([], [], color=MEAN, linewidth=2.2, alpha=0.55, label="95 % interval of the mean"))
    if any(line.rank == 1 for line in lines):
        handles.append(Line2D([], [], color=BEST, linewidth=6, label="first rank"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    return figure
