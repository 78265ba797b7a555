"""The lines of the page's tables: one for each row of a setting, with its records within."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from bench.board.analysis.grouping import Row, Spread, candidate
from bench.board.contents import Line, Table, short_method
from bench.board.sections import memory
from bench.board.writers.page import needs
from bench.board.writers.page.digits import mebibytes, percent, short
from bench.records.record import OWNERS, Cost, Record

# shares are in percent, sizes in MiB, times in milliseconds or, with `seconds`, in seconds; None is not known
COLUMNS = (
    *("setting", "method", "chosen", "regularizer", "kind", "rank", "test", "deviation", "low", "high", "min", "iqm"),
    *("dev", "dev_deviation", "sharpness", "sharpness_deviation"),
    *("tokens", "samples", "step", "p90", "p99", "seconds", "flops", "mfu", "joules"),
    *("trainable", "peak", "peak_record", "owners", "evaluate", "predicted", "ratio", "need", "source"),
    *("name", "records"),
)
# of a record within its row; `name` is what its name has beyond the row's
SEED_COLUMNS = ("name", "seed", "status", "test", "dev", "step", "seconds", "peak")


def lines(place: int, table: Table, string: Callable[[str], int]) -> list[list[Any]]:
    """Each row of `table` in the order of COLUMNS. `place`: of its setting; `string`: the place of a string."""
    return [_line(place, line, string) for line in table.lines]


def _line(place: int, line: Line, string: Callable[[str], int]) -> list[Any]:
    row = line.row
    name = os.path.commonprefix([record.name for record in row.records])
    seeds = [_seed(record, name, string) for record in row.records]
    chosen = candidate(row.records[0].cell)
    return [
        *(place, string(short_method(row)), None if chosen is None else string(chosen), string(row.regularizer)),
        *(string(_kind(row.records[0])), line.rank),
        *_quality(row),
        *_spread(row.sharpness),
        *_speed(row),
        *_memory(row, string),
        *(name, seeds),
    ]


def _seed(record: Record, name: str, string: Callable[[str], int]) -> list[Any]:
    quality, cost = record.quality, record.cost
    step = cost.step_milliseconds if cost else None
    most = memory.neediest([record], "train")
    return [
        *(record.name[len(name) :], record.cell.get("seed"), string(record.status)),
        *(percent(quality.test if quality else None), percent(quality.dev if quality else None)),
        *(short(step.p50 if step else None), short(cost.seconds.get("train") if cost else None)),
        mebibytes(most.peak_allocated_bytes if most else None),
    ]


def _quality(row: Row) -> list[float | None]:
    """On test: mean, sample standard deviation, the ends of the interval, least, interquartile mean; dev likewise."""
    interval = row.interval
    return [
        *(percent(row.test.mean), percent(row.test.deviation)),
        *((percent(interval.low), percent(interval.high)) if interval else (None, None)),
        *(percent(min(row.scores, default=None)), percent(row.interquartile_mean)),
        *(percent(row.dev.mean), percent(row.dev.deviation)),
    ]


def _speed(row: Row) -> list[float | None]:
    """Medians over seeds."""

    def median(of: Callable[[Cost], float | None]) -> float | None:
        return row.median(lambda record: record.cost and of(record.cost))

    return [
        *(short(row.tokens_per_second), short(median(lambda cost: cost.samples_per_second))),
        short(row.step_milliseconds),
        short(median(lambda cost: cost.step_milliseconds and cost.step_milliseconds.p90)),
        short(median(lambda cost: cost.step_milliseconds and cost.step_milliseconds.p99)),
        short(median(lambda cost: cost.seconds.get("train"))),
        short(median(lambda cost: cost.flops)),
        percent(median(lambda cost: cost.mfu)),
        short(median(lambda cost: cost.joules)),
    ]


def _memory(row: Row, string: Callable[[str], int]) -> list[Any]:
    """As in the tables of leaderboard.md: of the seed and the rank that need most."""
    found, record = memory.sizes(row), memory.neediest_record(row)
    owners = [mebibytes(found[memory.OWNER_COLUMNS[owner]]) for owner in OWNERS]
    need, source = needs.need(row)
    measured = memory.neediest([record], "train")
    return [
        row.trainable_parameters,
        mebibytes(found[memory.TRAIN]),
        row.records.index(record) if measured else None,
        owners if any(owners) else None,
        mebibytes(found[memory.EVALUATE]),
        mebibytes(found[memory.PREDICTED]),
        short(memory.ratio(found), 3),
        mebibytes(need),
        string(source),
    ]


def _spread(spread: Spread) -> list[float | None]:
    return [short(spread.mean, 3), short(spread.deviation, 2)]


def _kind(record: Record) -> str:
    """The family of a method, which plots give one symbol."""
    method = record.cell.get("method")
    kind = method.get("kind") if isinstance(method, dict) else None
    return str(kind or record.labels.method.split(" ")[0])
