"""Which records are compared with which: settings, rows and what a row sums up.

A setting is everything in a cell but method, regularizer and seed. A row of its table is one method with one
regularizer, over its seeds.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.records import Record

COMPARED = ("method", "regularizer", "seed")


@dataclass(frozen=True)
class Spread:
    """Some numbers as mean and sample standard deviation; None where they do not say."""

    mean: float | None
    deviation: float | None  # of two numbers or more
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        mean = statistics.fmean(values) if values else None
        return cls(mean, statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Row:
    method: str
    regularizer: str
    records: tuple[Record, ...]  # of all seeds, failures included

    @property
    def finished(self) -> list[Record]:
        return [record for record in self.records if record.status == "ok"]

    @property
    def test(self) -> Spread:
        return Spread.of([record.quality.test for record in self.finished if record.quality])

    @property
    def dev(self) -> Spread:
        return Spread.of([record.quality.dev for record in self.finished if record.quality])

    @property
    def sharpness(self) -> Spread:
        """How fast the loss rises to its maximum around the inputs, per unit of radius."""
        rises = [record.landscape.embeddings.rise for record in self.finished if record.landscape]
        return Spread.of([rise for rise in rises if rise is not None])

    @property
    def tokens_per_second(self) -> float | None:
        """The median over seeds."""
        return _median(r.cost.tokens_per_second for r in self.finished if r.cost)

    @property
    def step_milliseconds(self) -> float | None:
        """The median over seeds of the median step."""
        return _median(r.cost.step_milliseconds.p50 for r in self.finished if r.cost and r.cost.step_milliseconds)

    @property
    def peak_bytes(self) -> int | None:
        """In training, of the rank and the seed that needed most."""
        peaks = [m.peak_allocated_bytes for r in self.finished for m in r.memory if m.phase == "train"]
        return max((peak for peak in peaks if peak is not None), default=None)

    @property
    def trainable_parameters(self) -> int | None:
        return next((r.cost.trainable_parameters for r in self.finished if r.cost), None)


@dataclass(frozen=True)
class Setting:
    """One table: what all its rows have in common."""

    title: str
    details: str
    rows: tuple[Row, ...]  # best mean on test first

    @property
    def cost_only(self) -> bool:
        """Of random weights, which have no scores."""
        return is_cost_only(self.rows[0].records[0].cell)


def settings(records: Iterable[Record]) -> list[Setting]:
    """Every setting in the records, by title."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.name):
        shared = {key: value for key, value in record.cell.items() if key not in COMPARED}
        found.setdefault(_key(shared), []).append(record)
    titles = Counter(_title(group[0]) for group in found.values())
    made = [_setting(group, content if titles[_title(group[0])] > 1 else "") for content, group in found.items()]
    return sorted(made, key=lambda setting: (setting.title, setting.details))


def _title(record: Record) -> tuple[str, str]:
    labels, cell = record.labels, record.cell
    title = " · ".join((labels.task, labels.regime, labels.backbone, f"{labels.zero}, {_ranks(cell)}"))
    details = (
        f"{cell.get('steps')} steps of {cell.get('batch_size')} examples, {cell.get('precision')}, "
        f"{labels.head}, {_select(cell)}"
        f"{', checkpointing' if cell.get('checkpointing') else ''}"
        f"{', feature cache' if cell.get('feature_cache') else ''}"
        f"{_execution(cell)}{_landscape(cell.get('landscape'))}"
    )
    return title, details


def _setting(records: list[Record], content: str) -> Setting:
    """`content`, the whole setting, is named by a hash where title and details fit another one too."""
    title, details = _title(records[0])
    if content:
        details += f", other settings {hashlib.sha256(content.encode()).hexdigest()[:8]}"
    by_row: dict[str, list[Record]] = {}
    for record in records:
        key = _key([record.cell.get("method"), record.cell.get("regularizer")])
        by_row.setdefault(key, []).append(record)
    rows = [_row(group, list(by_row.values())) for group in by_row.values()]
    return Setting(title, details, tuple(sorted(rows, key=_best_first)))


def _row(records: list[Record], all_rows: list[list[Record]]) -> Row:
    """The recipe is named only where two rows would look the same without it."""
    labels = records[0].labels
    same = [r for r in all_rows if (r[0].labels.method, r[0].labels.regularizer) == (labels.method, labels.regularizer)]
    method = f"{labels.method} ({labels.recipe or 'own recipe'})" if len(same) > 1 else labels.method
    ordered = sorted(records, key=lambda record: (record.cell.get("seed", 0), record.name))
    return Row(method, labels.regularizer, tuple(ordered))


def _best_first(row: Row) -> tuple[float, str, str]:
    return (-row.test.mean if row.test.mean is not None else 1.0, row.method, row.regularizer)


def _ranks(cell: dict[str, Any]) -> str:
    ranks = cell.get("ranks")
    return f"{ranks} rank" if ranks == 1 else f"{ranks} ranks"


def is_cost_only(cell: dict[str, Any]) -> bool:
    return cell.get("weights") == "random"


def _select(cell: dict[str, Any]) -> str:
    if is_cost_only(cell):
        return f"random weights, texts of {cell.get('max_length')} tokens: costs only"
    return str(cell.get("select")).replace("_", " ")


def _execution(cell: dict[str, Any]) -> str:
    """How the layers are run, where it is not the usual way."""
    attention = cell.get("attention", "sdpa")
    named = "" if attention == "sdpa" else f", {attention.replace('_', ' ')} attention"
    return named + (", compiled" if cell.get("compile") else "")


def _landscape(settings: dict[str, Any] | None) -> str:
    if not settings:
        return ""
    weights = f", of weights {settings.get('weights_radius')}" if settings.get("weights") else ""
    size = f"{settings.get('grid')} x {settings.get('grid')} points, at most {settings.get('examples')} examples"
    return f", landscape of radius {settings.get('radius')}{weights}: {size}"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
