"""leaderboard.json: all that the board shows as data. `schema` grows when a reader would have to change.

Figures have 12 digits: processors that add up in another order differ in the last ones of what is computed here.
"""

from __future__ import annotations

import json as library
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from bench.board import claims
from bench.board.analysis.grouping import Row, Spread
from bench.board.analysis.over_tasks import Summary
from bench.board.analysis.stability import Steadiness
from bench.board.analysis.statistics import Interval
from bench.board.contents import Contents, Line, Table
from bench.board.sections import memory, regularizers, samples, titles
from bench.board.sections.speed import with_building
from bench.board.sections.tuning import candidates
from bench.records.record import Quantiles, Record

SCHEMA = 1
ROW = 4  # so deep lies a row, which has one line


def json(contents: Contents) -> str:
    """Sorted keys, a line for each row, failure, number and card."""
    made: dict[str, Any] = {
        "schema": SCHEMA,
        "settings": [_setting(table) for table in contents.tables],
        "over_tasks": [_summary(summary) for summary in contents.summaries],
        "claims": [claims.content(verdict) for verdict in contents.verdicts],
        "tuning": [asdict(one) for one in candidates(contents.records)],
        "failures": [_failure(record) for record in _by_name(contents.records) if record.status != "ok"],
        **_published(contents),
        "samples": [_sample(draw) for draw in samples.draws(contents.records, contents.cards)],
    }
    return _written(_rounded(made)) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def _written(value: Any, depth: int = 0) -> str:
    """As JSON; what holds rows, failures or the like has a line for each of them."""
    before, after = "\n" + " " * (depth + 1), "\n" + " " * depth
    if depth < ROW and isinstance(value, dict) and any(map(_of_objects, value.values())):
        lines = [f"{library.dumps(key)}: {_written(value[key], depth + 1)}" for key in sorted(value)]
        return "{" + before + f",{before}".join(lines) + after + "}"
    if depth < ROW and _of_objects(value):
        return "[" + before + f",{before}".join(_written(one, depth + 1) for one in value) + after + "]"
    return library.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _setting(table: Table) -> dict[str, Any]:
    record, setting = table.setting.rows[0].records[0], table.setting
    labels = record.labels
    return {
        "title": setting.title,
        "details": setting.details,
        "backbone": labels.backbone,
        "task": labels.task,
        "regime": labels.regime,
        "head": labels.head,
        "zero": labels.zero,
        **{key: record.cell.get(key) for key in ("ranks", "steps", "epochs", "batch_size", "precision", "select")},
        "protocol": record.cell.get("protocol"),
        "cost_only": setting.cost_only,
        "constant": setting.constants,
        "detectable_difference": table.ranking.detectable,
        "ranked_by": table.ranking.method,
        "pairs": table.ranking.pairs,
        "warnings": samples.mixed(setting),
        "rows": [_row(line, steady) for line, steady in zip(table.lines, table.steadiness, strict=True)],
        "regularizer_costs": [dict(zip(regularizers.KEYS, one, strict=True)) for one in regularizers.costs(setting)],
    }


def _row(line: Line, steady: Steadiness | None) -> dict[str, Any]:
    row, values = line.row, line.row.scores
    return {
        "method": row.method,
        "regularizer": row.regularizer,
        "departures": row.records[0].labels.departures,
        "rank": line.rank,
        "test": {
            **_spread(row.test),
            "minimum": min(values, default=None),
            "maximum": max(values, default=None),
            "interquartile_mean": row.interquartile_mean,
            "interval": _interval(line.row.interval),
        },
        "dev": _spread(row.dev),
        "sharpness": _spread(row.sharpness),
        "stability": _stability(steady),
        "seeds": [_seed(record) for record in row.records],
        "costs": _costs(row),
        "memory_bytes": {key.replace(" ", "_").replace("-", "_"): size for key, size in memory.sizes(row).items()},
    }


def _summary(summary: Summary) -> dict[str, Any]:
    steady = [*summary.steadiness, *[None] * (len(summary.lines) - len(summary.steadiness))]
    return {
        "title": summary.title,
        "details": summary.details,
        "tasks": summary.tasks,
        "detectable_difference": summary.ranking.detectable,
        "rows": [
            {
                "method": line.method,
                "regularizer": line.regularizer,
                "rank": rank,
                "test": {"mean": line.mean, "deviation": line.deviation, "interval": _interval(line.interval)},
                "tasks": {task: row.scores for task, row in line.rows.items()},
                "stability": _stability(one),
            }
            for line, rank, one in zip(summary.lines, summary.ranks, steady, strict=True)
        ],
    }


def _spread(spread: Spread) -> dict[str, Any]:
    return {"mean": spread.mean, "deviation": spread.deviation, "count": spread.count}


def _interval(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _stability(steady: Steadiness | None) -> dict[str, Any] | None:
    """Against the same method without a regularizer."""
    if steady is None:
        return None
    ratio = steady.ratio
    return {
        "deviation_ratio": None if ratio is None else ratio.value,
        "deviation_ratio_interval": None if ratio is None else _interval(ratio.interval),
        "brown_forsythe_p": steady.p,
        "verdict": steady.verdict,
    }


def _seed(record: Record) -> dict[str, Any]:
    quality = record.quality
    return {
        "seed": record.cell.get("seed"),
        "record": record.name,
        "status": record.status,
        "test": quality.test if quality else None,
        "dev": quality.dev if quality else None,
        "scores": quality.scores if quality else {},
        "sample": quality.sample if quality else None,
    }


def _costs(row: Row) -> dict[str, Any]:
    """Medians over seeds of what each finished cell has; the peak is the largest."""
    return {
        "tokens_per_second": row.tokens_per_second,
        "samples_per_second": row.median(lambda r: r.cost and r.cost.samples_per_second),
        "samples_per_second_with_building": with_building(row),
        "step_milliseconds_p50": row.step_milliseconds,
        "step_milliseconds_p90": row.median(lambda r: (step := _step(r)) and step.p90),
        "step_milliseconds_p99": row.median(lambda r: (step := _step(r)) and step.p99),
        "peak_bytes_per_rank": row.peak_bytes,
        "trainable_parameters": row.trainable_parameters,
        "flops_per_step": row.median(lambda r: r.cost and r.cost.flops),
        "mfu": row.median(lambda r: r.cost and r.cost.mfu),
        "joules_per_step": row.median(lambda r: r.cost and r.cost.joules),
        "data_wait_share": row.median(lambda r: r.cost and r.cost.data_wait_share),
        "seconds": _seconds(row),
    }


def _step(record: Record) -> Quantiles | None:
    return record.cost.step_milliseconds if record.cost else None


def _seconds(row: Row) -> dict[str, float | None]:
    phases = sorted({phase for record in row.finished if record.cost for phase in record.cost.seconds})
    return {phase: row.median(lambda r, phase=phase: r.cost and r.cost.seconds.get(phase)) for phase in phases}


def _by_name(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.name)


def _failure(record: Record) -> dict[str, Any]:
    failure = record.failure
    return {
        "record": record.name,
        "setting": titles.title(record),
        "method": record.labels.method,
        "regularizer": record.labels.regularizer,
        "seed": record.cell.get("seed"),
        "status": record.status,
        **({} if failure is None else failure.model_dump(mode="json", exclude={"log"})),
    }


def _published(contents: Contents) -> dict[str, Any]:
    return {
        "published": [
            {
                "setting": one.setting,
                "method": one.row.method,
                "ours": _spread(one.ours),
                "difference": one.difference,
                "same_protocol": one.comparison.same_protocol,
                "differs": one.comparison.differs,
                "records": [record.name for record in one.row.finished],
                "published": one.figure.model_dump(mode="json", exclude={"compare"}),
            }
            for one in contents.beside
        ],
        "published_context": [figure.model_dump(mode="json", exclude={"compare"}) for figure in contents.around],
    }


def _sample(draw: samples.Draw) -> dict[str, Any]:
    return {
        "task": draw.task,
        "regime": draw.regime,
        "seed": draw.seed,
        "sample": draw.sample,
        "origin": draw.origin,
        "cells": draw.cells,
        "classes": None if draw.card is None else draw.card.classes,
    }
