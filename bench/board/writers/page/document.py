"""What the page knows, as plain data: settings, a line for each row with its records, failures, further tables.

A page of 10,000 records stays below 2 MB: columns are named once, strings that come again are numbers into `strings`,
figures have the digits that a reader can use. leaderboard.csv has them whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.board.analysis.grouping import Setting
from bench.board.analysis.ranks import Ranking
from bench.board.contents import Contents
from bench.board.sections.failures import OF_MEMORY, why
from bench.board.writers.page import needs, rows
from bench.board.writers.page.digits import mebibytes, percent
from bench.board.writers.page.sections import Section
from bench.records.record import OWNERS, Record

FAILURES = (
    *("record", "backbone", "task", "regime", "method", "regularizer", "zero", "ranks", "precision"),
    *("status", "phase", "asked", "free", "why"),
)


@dataclass
class Strings:
    """Each string once, by its place in `known`."""

    known: dict[str, int] = field(default_factory=dict[str, int])

    def place(self, text: str) -> int:
        return self.known.setdefault(text, len(self.known))


def document(contents: Contents, sections: Sequence[Section] = ()) -> dict[str, Any]:
    """Plain data, the same for the same records."""
    ordered = sorted(contents.records, key=lambda record: record.name)
    strings = Strings()
    lines = [line for place, table in enumerate(contents.tables) for line in rows.lines(place, table, strings.place)]
    return {
        "records": len(ordered),
        "commits": _commits(ordered),
        "owners": [owner.replace("_", " ") for owner in OWNERS],
        "settings": [_setting(table.setting, table.ranking) for table in contents.tables],
        "columns": rows.COLUMNS,
        "seed_columns": rows.SEED_COLUMNS,
        "rows": lines,
        "failures": _failures(ordered),
        "sections": [{"title": s.title, "note": s.note, "head": [*s.head], "rows": [*s.rows]} for s in sections],
        "strings": [*strings.known],
    }


def _setting(setting: Setting, ranking: Ranking) -> dict[str, Any]:
    first = setting.rows[0].records[0]
    return {
        "title": setting.title,
        "details": setting.details,
        **_axes(first),
        "detectable": percent(ranking.detectable),
        "constant": [round(100 * value, 1) for value in setting.constants],  # percent
        "length": first.cell.get("max_length"),
        "micro": needs.micro_batch(first.cell),
        "cost_only": setting.cost_only,
    }


def _axes(record: Record) -> dict[str, Any]:
    """What the page filters by, but for method and regularizer."""
    labels, cell = record.labels, record.cell
    return {
        "backbone": labels.backbone,
        "task": labels.task,
        "regime": labels.regime,
        "zero": labels.zero,
        "ranks": cell.get("ranks"),
        "precision": cell.get("precision"),
    }


def _failures(records: Sequence[Record]) -> dict[str, Any]:
    return {"columns": FAILURES, "rows": [_failure(record) for record in records if record.status != "ok"]}


def _failure(record: Record) -> list[Any]:
    """In the order of FAILURES; sizes in MiB."""
    axes, failure = _axes(record), record.failure
    asked = (failure.bytes_asked, failure.bytes_free) if failure and record.status in OF_MEMORY else (None, None)
    return [
        *(record.name, axes["backbone"], axes["task"], axes["regime"], record.labels.method, record.labels.regularizer),
        *(axes["zero"], axes["ranks"], axes["precision"], record.status, failure.phase if failure else None),
        *(mebibytes(size) for size in asked),
        why(failure) if failure else None,
    ]


def _commits(records: Iterable[Record]) -> list[str]:
    """Of the suite that made the records, with a mark where the checkout had changes."""
    known = (record.environment for record in records)
    return sorted({f"{one.commit[:7]}{' with changes' if one.dirty else ''}" for one in known if one and one.commit})
