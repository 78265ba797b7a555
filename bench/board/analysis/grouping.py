"""Which records are compared with which: settings, rows and what a row sums up.

A setting is everything in a cell but method, regularizer and seed. A row of its table is one method with one
regularizer, over its seeds. Cells that only served to choose hyper-parameters are in no setting.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from pydantic_core import to_json

from bench.board.analysis.statistics import Interval, interquartile_mean, mean_interval, wilson
from bench.board.sections import titles
from bench.records.record import Record

COMPARED = ("method", "regularizer", "seed", "tuning")


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
    def name(self) -> str:
        """The method, with its regularizer if it has one."""
        return self.method if self.regularizer == "none" else f"{self.method} with {self.regularizer}"

    @cached_property
    def finished(self) -> list[Record]:
        return [record for record in self.records if record.status == "ok"]

    @cached_property
    def scores(self) -> list[float]:
        """On test, in the order of seeds."""
        return [record.quality.test for record in self.finished if record.quality]

    @cached_property
    def test(self) -> Spread:
        return Spread.of(self.scores)

    @cached_property
    def interval(self) -> Interval | None:
        """95 % of the mean on test over seeds; of one seed 95 % of its accuracy over test examples (Wilson)."""
        if len(self.scores) > 1:
            found = mean_interval([self.scores])
            return found and Interval(max(found.low, 0.0), min(found.high, 1.0))
        known = [record.quality for record in self.finished if record.quality]
        if not known or known[0].metric != "accuracy" or not known[0].outcomes:
            return None
        return wilson(known[0].outcomes.count("1"), len(known[0].outcomes))

    @cached_property
    def interquartile_mean(self) -> float | None:
        """Of the scores on test; None of fewer than 4, of which it leaves none out."""
        return interquartile_mean(self.scores) if len(self.scores) >= 4 else None

    @cached_property
    def dev(self) -> Spread:
        return Spread.of([record.quality.dev for record in self.finished if record.quality])

    @cached_property
    def sharpness(self) -> Spread:
        """How fast the loss rises to its maximum around the inputs, per unit of radius."""
        rises = [record.landscape.embeddings.rise for record in self.finished if record.landscape]
        return Spread.of([rise for rise in rises if rise is not None])

    def median(self, of: Callable[[Record], float | None]) -> float | None:
        """Over the seeds that finished and know it."""
        known = [value for record in self.finished if (value := of(record)) is not None]
        return statistics.median(known) if known else None

    @cached_property
    def tokens_per_second(self) -> float | None:
        """The median over seeds."""
        return self.median(lambda record: record.cost and record.cost.tokens_per_second)

    @cached_property
    def step_milliseconds(self) -> float | None:
        """The median over seeds of the median step."""
        return self.median(lambda r: r.cost and r.cost.step_milliseconds and r.cost.step_milliseconds.p50)

    @cached_property
    def peak_bytes(self) -> int | None:
        """In training, of the rank and the seed that needed most."""
        peaks = [m.peak_allocated_bytes for r in self.finished for m in r.memory if m.phase == "train"]
        return max((peak for peak in peaks if peak is not None), default=None)

    @cached_property
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
        return titles.is_cost_only(self.rows[0].records[0].cell)

    @property
    def constants(self) -> list[float]:
        """The best that one answer to all of test would score; several where rows have other tests."""
        found = {record.quality.constant for row in self.rows for record in row.finished if record.quality}
        return sorted(value for value in found if value is not None)


@dataclass(frozen=True)
class Group:
    """Records that may be compared, by name."""

    title: str
    details: str
    records: tuple[Record, ...]


def settings(records: Iterable[Record]) -> list[Setting]:
    """Every setting in the records, by title."""
    return [_setting(group) for group in groups(records, COMPARED, titles.title)]


def groups(records: Iterable[Record], compared: Collection[str], title: Callable[[Record], str]) -> list[Group]:
    """Those that differ in the fields `compared` alone, by title and details, which no other group has."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.name):
        if role(record.cell) == "tune":
            continue
        shared = {key: value for key, value in record.cell.items() if key not in compared}
        found.setdefault(key_of(shared), []).append(record)
    names = {content: (title(group[0]), titles.details(group[0])) for content, group in found.items()}
    several = Counter(names.values())
    made: list[Group] = []
    for content, group in found.items():
        name, details = names[content]
        if several[name, details] > 1:
            details += f", other settings {digest(content)}"
        made.append(Group(name, details, tuple(group)))
    return sorted(made, key=lambda group: (group.title, group.details))


def _setting(group: Group) -> Setting:
    by_row: dict[str, list[Record]] = {}
    for record in group.records:
        key = key_of([record.cell.get("method"), record.cell.get("regularizer")])
        by_row.setdefault(key, []).append(record)
    rows = [_row(records, list(by_row.values())) for records in by_row.values()]
    return Setting(group.title, group.details, tuple(sorted(rows, key=_best_first)))


def _row(records: list[Record], all_rows: list[list[Record]]) -> Row:
    """The recipe is named only where two rows would look the same without it."""
    labels = records[0].labels
    same = [r for r in all_rows if (r[0].labels.method, r[0].labels.regularizer) == (labels.method, labels.regularizer)]
    tuned = candidate(records[0].cell)
    method = f"{labels.method} ({labels.recipe or 'own recipe'})" if len(same) > 1 and not tuned else labels.method
    if tuned:
        method += f" (chosen: {tuned})"
    ordered = sorted(records, key=lambda record: (record.cell.get("seed", 0), record.name))
    return Row(method, labels.regularizer, tuple(ordered))


def _best_first(row: Row) -> tuple[float, str, str]:
    return (-row.test.mean if row.test.mean is not None else 1.0, row.method, row.regularizer)


def role(cell: dict[str, Any]) -> str | None:
    """tune, report, or None where a cell has nothing to do with a choice of hyper-parameters."""
    return (cell.get("tuning") or {}).get("role")


def candidate(cell: dict[str, Any]) -> str | None:
    """What was chosen for a cell that is reported."""
    return cell["tuning"]["candidate"] if role(cell) == "report" else None


def plain_rows(setting: Setting) -> list[Row | None]:
    """For each row the one of the same method without a regularizer; None where there is none, or it is that one."""
    plain = {method_key(row.records[0].cell): row for row in setting.rows if row.regularizer == "none"}
    return [None if row.regularizer == "none" else plain.get(method_key(row.records[0].cell)) for row in setting.rows]


def method_key(cell: dict[str, Any]) -> str:
    """The same for cells of one method, whatever was chosen of its recipe."""
    method = cell.get("method")
    if isinstance(method, dict) and isinstance(method.get("recipe"), dict):
        method = {**method, "recipe": _without(method["recipe"], chosen(cell))}
    return key_of(method)


def regularizer_key(cell: dict[str, Any]) -> str:
    """The same for cells of one regularizer, whatever was chosen of it."""
    regularizer = cell.get("regularizer")
    return key_of(_without(regularizer, chosen(cell)) if isinstance(regularizer, dict) else regularizer)


def chosen(cell: dict[str, Any]) -> set[str]:
    """The names of the hyper-parameters that were chosen for a cell that is reported."""
    return {part.partition("=")[0] for part in (candidate(cell) or "").split()}


def _without(fields: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def key_of(value: Any) -> str:
    """The same for equal plain data."""
    return _sorted(to_json(value))


@lru_cache(100_000)
def _sorted(content: bytes) -> str:
    """Cells are alike, and asked for by every form: most are sorted once."""
    return json.dumps(json.loads(content), sort_keys=True)


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:8]
