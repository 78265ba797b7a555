"""ZeRO configurations and numbers of ranks side by side: a table for cells that differ in nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench.board.analysis.grouping import COMPARED, Group, Row, digest, groups, key_of, settings
from bench.board.sections import titles
from bench.board.sections.memory import SHORT, columns
from bench.board.writers.tables import number, table, text
from bench.records.record import Record

HEADING = "ZeRO configurations and ranks"


@dataclass(frozen=True)
class Line:
    """A row of a setting, with what sets its setting apart."""

    row: Row
    zero: str
    ranks: int

    @property
    def status(self) -> str:
        return "ok" if self.row.finished else ", ".join(sorted({record.status for record in self.row.records}))


def zero(records: Iterable[Record], owners: bool) -> str:
    """A table for each group that has several configurations or numbers of ranks; `owners`: with memory by owner."""
    found = groups(records, (*COMPARED, "zero", "ranks"), titles.subject)
    made = [comparison(group, _lines(group), owners) for group in found if len(settings(group.records)) > 1]
    return "\n".join([f"## {HEADING}\n", *made]) if made else ""


def comparison(group: Group, lines: list[Line], owners: bool) -> str:
    unit, head, cells = columns([line.row for line in lines], None if owners else SHORT)
    stopped = any(line.status != "ok" for line in lines)
    first = ["method", "regularizer", "ZeRO", "ranks", *(["status"] if stopped else [])]
    rows = [
        [
            *(text(line.row.method), text(line.row.regularizer), text(line.zero), str(line.ranks)),
            *([line.status] if stopped else []),
            *sizes,
            *(number(line.row.tokens_per_second, 0), number(line.row.step_milliseconds, 1)),
        ]
        for line, sizes in zip(lines, cells, strict=True)
    ]
    made = table([*first, *head, "tokens/s", "step ms"], rows, left=3)
    details = f"{text(group.details)}. Memory of the rank that needs most, {unit}."
    return f"### {text(group.title)}\n\n{details}\n\n{made}"


def _lines(group: Group) -> list[Line]:
    """By method and regularizer, then by configuration and ranks."""
    found = [(row, row.records[0]) for setting in settings(group.records) for row in setting.rows]
    configurations = {(one.labels.zero, key_of(one.cell.get("zero"))) for _, one in found}
    several = Counter(label for label, _ in configurations)

    def name(record: Record) -> str:
        label = record.labels.zero
        return f"{label} {digest(key_of(record.cell.get('zero')))}" if several[label] > 1 else label

    def order(line: Line) -> tuple[Any, ...]:
        return line.row.method, line.row.regularizer != "none", line.row.regularizer, line.zero, line.ranks

    return sorted((Line(row, name(record), record.cell.get("ranks", 1)) for row, record in found), key=order)
