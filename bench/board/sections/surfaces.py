"""The loss surfaces in the records, by setting: a panel for each method with each regularizer, the mean over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench.board.analysis.grouping import Row, Setting, Spread, settings
from bench.board.writers.tables import UNKNOWN
from bench.records.record import Record, Surface

Kind = Literal["embeddings", "weights"]
SCALARS = ("rise", "slope", "curvature")
KINDS: tuple[Kind, ...] = ("embeddings", "weights")


@dataclass(frozen=True)
class Panel:
    method: str
    regularizer: str
    radius: float
    loss: list[list[float]]  # as in the record; NaN where it is not finite for a seed
    rise: Spread
    slope: Spread
    curvature: Spread
    seeds: int


@dataclass(frozen=True)
class Sheet:
    """The panels of one setting and kind: the same radius, grid and examples, so that they can be compared."""

    kind: Kind
    setting: Setting
    panels: tuple[Panel, ...]  # by method, then regularizer, "none" first

    @property
    def columns(self) -> int:
        """Of small multiples: a row for each method where all have the same few regularizers."""
        by_method = [[p.regularizer for p in self.panels if p.method == method] for method in self._methods]
        if len(by_method) > 1 and all(one == by_method[0] for one in by_method) and 1 < len(by_method[0]) <= 4:
            return len(by_method[0])
        rows = -(-len(self.panels) // 4)
        return -(-len(self.panels) // rows)

    @property
    def _methods(self) -> list[str]:
        return list(dict.fromkeys(panel.method for panel in self.panels))

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest loss of all panels: one scale for them."""
        known = [loss for panel in self.panels for line in panel.loss for loss in line if math.isfinite(loss)]
        low, high = (min(known), max(known)) if known else (0.0, 0.0)
        return (low, high) if high > low else (low, low + 1)


def sheets(records: Iterable[Record]) -> list[Sheet]:
    found: list[Sheet] = []
    for setting in settings(records):
        for kind in KINDS:
            panels = [panel for row in setting.rows if (panel := _panel(row, kind)) is not None]
            panels.sort(key=lambda panel: (panel.method, panel.regularizer != "none", panel.regularizer))
            if panels:
                found.append(Sheet(kind, setting, tuple(panels)))
    return found


def _measured(row: Row, kind: Kind) -> list[Surface]:
    """Of each seed that has it."""
    landscapes = [record.landscape for record in row.finished if record.landscape]
    every = [one.embeddings if kind == "embeddings" else one.weights for one in landscapes]
    return [surface for surface in every if surface is not None]


def _panel(row: Row, kind: Kind) -> Panel | None:
    found = _measured(row, kind)
    if not found:
        return None
    columns = zip(*([loss for line in surface.loss for loss in line] for surface in found), strict=True)
    mean = [statistics.fmean(math.nan if loss is None else loss for loss in losses) for losses in columns]
    grid = found[0].grid
    return Panel(
        method=row.method,
        regularizer=row.regularizer,
        radius=found[0].radius,
        loss=[mean[i * grid : (i + 1) * grid] for i in range(grid)],
        rise=_spread(surface.rise for surface in found),
        slope=_spread(surface.slope for surface in found),
        curvature=_spread(surface.curvature for surface in found),
        seeds=len(found),
    )


def _spread(values: Iterable[float | None]) -> Spread:
    return Spread.of([value for value in values if value is not None])


def scalars(found: Iterable[Sheet]) -> tuple[list[str], list[list[str | int | float | None]]]:
    """Head and a row for each panel; mean and sample standard deviation over seeds, per unit of radius."""
    head = ["setting", "surface", "method", "regularizer", "seeds"]
    head += [column for name in SCALARS for column in (name, f"{name} ±")]
    rows: list[list[str | int | float | None]] = []
    for sheet in found:
        for panel in sheet.panels:
            spreads: list[Spread] = [getattr(panel, name) for name in SCALARS]
            numbers = [value for spread in spreads for value in (spread.mean, spread.deviation)]
            rows.append([sheet.setting.title, sheet.kind, panel.method, panel.regularizer, panel.seeds, *numbers])
    return head, rows


def shown(value: str | int | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return UNKNOWN if value is None else str(value)
