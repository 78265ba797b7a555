"""Quality against what it costs: a panel each for memory, time and trained parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.board.analysis.grouping import Row
from bench.board.contents import Line, Table, short_method
from bench.board.figures.drawing import WIDTH, Look, legend, legend_height, log_ticks, looks
from bench.board.writers.tables import UNITS, unit

FILLS = (
    "full",
    "none",
    "left",
    "bottom",
    "right",
    "top",
)  # of a marker, by the sort of regularizer; the first is without one
NO_REGULARIZER = "no regularizer"
HEIGHT = 2.6  # inches, without the legend


@dataclass(frozen=True)
class Axis:
    label: str
    of: Callable[[Row], float | None]


def shows(table: Table) -> bool:
    """Whether a row has a score and a cost."""
    return bool(_shown(table)[1])


def _shown(table: Table) -> tuple[list[Line], list[Axis]]:
    lines = [line for line in table.lines if line.row.test.mean is not None]
    return lines, [axis for axis in _axes(lines) if any(axis.of(line.row) for line in lines)]


def draw(table: Table) -> Figure:
    lines, axes = _shown(table)
    look = looks(short_method(line.row) for line in lines)
    fill = _fills(lines)
    handles = _handles(look, fill)
    figure = Figure((WIDTH, HEIGHT + legend_height(handles)), layout="constrained")
    places: Any = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for place, axis in zip(places, axes, strict=True):
        _panel(place, axis, lines, look, fill)
    places[0].set_ylabel("test %")
    figure.suptitle(table.setting.title, fontsize=8)
    legend(figure, handles)
    return figure


def _axes(lines: Sequence[Line]) -> list[Axis]:
    size = unit(line.row.peak_bytes for line in lines)
    return [
        Axis(f"peak memory per rank, {size}", lambda row: row.peak_bytes and row.peak_bytes / UNITS[size]),
        Axis("step, ms", lambda row: row.step_milliseconds),
        Axis("trainable parameters", lambda row: row.trainable_parameters),
    ]


def _sort(row: Row) -> str:
    """Of its regularizer, without settings: there are fewer sorts than FILLS."""
    made = row.records[0].cell.get("regularizer")
    if not isinstance(made, dict) or made.get("kind") == "none":
        return NO_REGULARIZER
    return " in ".join(str(made[key]) for key in ("kind", "space") if made.get(key))


def _fills(lines: Sequence[Line]) -> dict[str, str]:
    """By the regularizer's sort."""
    sorts = sorted({_sort(line.row) for line in lines}, key=lambda one: (one != NO_REGULARIZER, one))
    first = 0 if NO_REGULARIZER in sorts else 1
    return {one: FILLS[(first + place) % len(FILLS)] for place, one in enumerate(sorts)}


def _panel(place: Any, axis: Axis, lines: Sequence[Line], look: dict[str, Look], fill: dict[str, str]) -> None:
    known = [(cost, line) for line in lines if (cost := axis.of(line.row))]
    place.set_xscale("log")
    front = _front([(cost, line.row.test.mean or 0.0) for cost, line in known])
    place.plot(*zip(*front, strict=True), drawstyle="steps-post", color="#999999", linewidth=0.8, zorder=1)
    for cost, line in known:
        one, mean = look[short_method(line.row)], 100 * (line.row.test.mean or 0.0)
        if line.row.interval is not None:
            low, high = 100 * line.row.interval.low, 100 * line.row.interval.high
            place.plot([cost, cost], [low, high], color=one.colour, linewidth=0.7, alpha=0.6, zorder=2)
        place.plot([cost], [mean], **_marker(one, fill[_sort(line.row)]), zorder=3)
    place.set_xlabel(axis.label)
    place.grid(color="#e5e5e5", linewidth=0.5)
    place.set_axisbelow(True)
    log_ticks(place.xaxis, [cost for cost, _ in known])


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of costs and means (0..1) those that none beats in both, in percent, by cost; a step line joins them."""
    best: list[tuple[float, float]] = []
    for cost, mean in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or 100 * mean > best[-1][1]:
            best.append((cost, 100 * mean))
    return best


def _marker(look: Look, fill: str) -> dict[str, Any]:
    return {
        "marker": look.marker,
        "color": look.colour,
        "fillstyle": fill,
        "markersize": 5,
        "markeredgewidth": 0.8,
        "markerfacecoloralt": "white",
        "linestyle": "none",
    }


def _handles(look: dict[str, Look], fill: dict[str, str]) -> list[Line2D]:
    """Methods by colour and marker; regularizers by what of the marker is filled, where there are several."""
    methods = [Line2D([], [], label=name, **_marker(one, "full")) for name, one in look.items()]
    if len(fill) < 2:
        return methods
    grey = Look("#555555", "o")
    return methods + [Line2D([], [], label=name, **_marker(grey, one)) for name, one in fill.items()]
