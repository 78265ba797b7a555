"""Scaling over ranks: throughput and peak memory of cells that differ in ranks only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from bench.board.analysis.grouping import COMPARED, Group, Row, groups, settings
from bench.board.contents import short_name
from bench.board.figures.drawing import WIDTH, Look, legend, legend_height, log_ticks, looks
from bench.board.sections import titles
from bench.board.writers.tables import UNITS, unit
from bench.records.record import Record

HEIGHT = 2.6  # inches, without the legend


@dataclass(frozen=True)
class Curve:
    """One method with one regularizer; a row for each number of ranks, ascending."""

    name: str
    points: tuple[tuple[int, Row], ...]


@dataclass(frozen=True)
class Curves:
    """What differs in method, regularizer and ranks alone."""

    title: str
    details: str
    curves: tuple[Curve, ...]


def curves(records: Iterable[Record]) -> list[Curves]:
    """Of methods that ran on two numbers of ranks or more."""
    found = groups(records, (*COMPARED, "ranks"), lambda record: f"{titles.subject(record)} · {record.labels.zero}")
    made = [Curves(group.title, group.details, tuple(_curves(group))) for group in found]
    return [one for one in made if one.curves]


def _curves(group: Group) -> list[Curve]:
    by_name: dict[str, list[tuple[int, Row]]] = {}
    for setting in settings(group.records):
        for row in setting.rows:
            if row.finished:
                by_name.setdefault(short_name(row), []).append((row.records[0].cell.get("ranks", 1), row))
    ascending = {name: sorted(points, key=lambda point: point[0]) for name, points in sorted(by_name.items())}
    return [Curve(name, tuple(points)) for name, points in ascending.items() if len({n for n, _ in points}) > 1]


def draw(found: Curves) -> Figure:
    look = looks(curve.name for curve in found.curves)
    handles = [Line2D([], [], label=name, **_style(one)) for name, one in look.items()]
    figure = Figure((WIDTH, HEIGHT + legend_height(handles)), layout="constrained")
    speed, memory = figure.subplots(1, 2)
    size = unit(row.peak_bytes for curve in found.curves for _, row in curve.points)
    _panel(speed, found.curves, look, lambda row: row.tokens_per_second)
    speed.set_ylabel("tokens/s")
    _panel(memory, found.curves, look, lambda row: row.peak_bytes and row.peak_bytes / UNITS[size])
    memory.set_ylabel(f"peak memory per rank, {size}")
    figure.suptitle(found.title, fontsize=8)
    legend(figure, handles)
    return figure


def _style(look: Look) -> dict[str, Any]:
    return {"color": look.colour, "marker": look.marker, "markersize": 4, "linewidth": 1}


def _panel(place: Any, found: Sequence[Curve], look: dict[str, Look], of: Callable[[Row], float | None]) -> None:
    numbers = sorted({ranks for curve in found for ranks, _ in curve.points})
    every: list[float] = []
    for curve in found:
        known = [(ranks, value) for ranks, row in curve.points if (value := of(row))]
        every += [value for _, value in known]
        place.plot([ranks for ranks, _ in known], [value for _, value in known], **_style(look[curve.name]))
    place.set_xscale("log", base=2)
    place.xaxis.set_major_locator(FixedLocator(numbers))
    place.xaxis.set_minor_locator(NullLocator())
    place.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if every:
        place.set_yscale("log")
        log_ticks(place.yaxis, every)
    place.set_xlabel("ranks")
    place.grid(color="#e5e5e5", linewidth=0.5)
    place.set_axisbelow(True)
