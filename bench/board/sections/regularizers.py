"""What each regularizer costs, in steps of the same method without one, beside what counting passes gives."""

from __future__ import annotations

import statistics

from bench.board.analysis.grouping import Row, Setting, plain_rows

HEAD = ("method", "regularizer", "step ms", "× plain step", "× counted", "refresh ms/step")
KEYS = (
    *("method", "regularizer", "step_milliseconds", "times_plain_step", "times_counted"),
    "refresh_milliseconds_per_step",
)

Figures = tuple[str, str, float | None, float | None, float | None, float | None]


def costs(setting: Setting) -> list[Figures]:
    """A line for every regularized row that has a plain one of the same method beside it; None is not known."""
    beside = zip(setting.rows, plain_rows(setting), strict=True)
    found = [(row, plain) for row, plain in beside if plain is not None]
    return [
        (
            row.method,
            row.regularizer,
            row.step_milliseconds,
            _ratio(row.step_milliseconds, plain.step_milliseconds),
            _ratio(_counted(row), _counted(plain)),
            _refresh(row),
        )
        for row, plain in sorted(found, key=lambda pair: (pair[0].method, pair[0].regularizer))
    ]


def _counted(row: Row) -> float | None:
    return next((r.cost.forward_equivalents for r in row.finished if r.cost), None)


def _refresh(row: Row) -> float | None:
    """Milliseconds a step for perturbing the examples anew each epoch, which the step's own time leaves out."""
    known = [
        1000 * r.cost.seconds["attack"] / r.cell["steps"]
        for r in row.finished
        if r.cost and "attack" in r.cost.seconds and r.cell.get("steps")
    ]
    return statistics.median(known) if known else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
