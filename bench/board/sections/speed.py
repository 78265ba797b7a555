"""Speed: the table of a setting with what its steps and its phases take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.board.analysis.grouping import Row, Setting
from bench.board.writers.tables import UNKNOWN, decimals, number, table, text
from bench.records.record import Cost

PHASES = ("load", "setup", "cache", "train", "attack", "evaluate", "save", "landscape")
UNITS = {"TFLOP": 1e12, "GFLOP": 1e9}

Figure = Callable[[Cost], float | None]


def speed(setting: Setting) -> str:
    """A line for each row; nothing where nothing is known. Columns without a figure are left out."""
    made = {column: [show(row) for row in setting.rows] for column, show in columns(setting.rows).items()}
    known = {column: cells for column, cells in made.items() if any(cell != UNKNOWN for cell in cells)}
    names = [[text(row.method), text(row.regularizer)] for row in setting.rows]
    rows = [[*name, *cells] for name, *cells in zip(names, *known.values(), strict=True)]
    return f"Speed:\n\n{table(['method', 'regularizer', *known], rows, left=2)}" if known else ""


def columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    operations = [one for row in rows if (one := _median(row, lambda cost: cost.flops)) is not None]
    unit = next((name for name, count in UNITS.items() if max(operations, default=0) >= count), "GFLOP")
    return {
        "tokens/s": shown(lambda cost: cost.tokens_per_second, 0),
        "samples/s": shown(lambda cost: cost.samples_per_second, 1),
        "samples/s with the cache's building": lambda row: number(with_building(row), 1),
        "step ms p50": shown(lambda cost: cost.step_milliseconds and cost.step_milliseconds.p50, 1),
        "p90": shown(lambda cost: cost.step_milliseconds and cost.step_milliseconds.p90, 1),
        "p99": shown(lambda cost: cost.step_milliseconds and cost.step_milliseconds.p99, 1),
        f"{unit}/step": shown(lambda cost: _times(cost.flops, 1 / UNITS[unit]), None),
        "MFU %": shown(lambda cost: _times(cost.mfu, 100), 1),
        "joules/step": shown(lambda cost: cost.joules, None),
        "data wait %": shown(lambda cost: _times(cost.data_wait_share, 100), 1),
        **{f"{phase} s": shown(partial(_seconds, phase), 2) for phase in PHASES},
    }


def shown(figure: Figure, places: int | None) -> Callable[[Row], str]:
    """The median over seeds with so many decimals, or in three digits."""

    def show(row: Row) -> str:
        found = _median(row, figure)
        return number(found, decimals(found or 0) if places is None else places)

    return show


def _median(row: Row, figure: Figure) -> float | None:
    return row.median(lambda record: record.cost and figure(record.cost))


def _seconds(phase: str, cost: Cost) -> float | None:
    return cost.seconds.get(phase)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def with_building(row: Row) -> float | None:
    """Samples per second if this cell's steps also pay for the states it had to compute for the feature cache.

    Of the seed that had to compute most of them; None where others had computed all.
    """
    found = [
        (record.cost.feature_cache_built, amortised(record.cell, record.cost))
        for record in row.finished
        if record.cost and record.cost.feature_cache_built
    ]
    return max(found, key=lambda one: one[0], default=(0, None))[1]


def amortised(cell: dict[str, Any], cost: Cost) -> float | None:
    building, steps, batch = cost.seconds.get("cache"), cell.get("steps"), cell.get("batch_size")
    if building is None or not steps or not batch or not cost.samples_per_second:
        return None
    samples = steps * batch
    return samples / (samples / cost.samples_per_second + building)
