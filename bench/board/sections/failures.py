"""The cells that did not finish: how each ended, and why."""

from __future__ import annotations

from collections.abc import Sequence

from bench.board.writers.tables import UNITS, UNKNOWN, size, table, text
from bench.records.record import Failure, Record

OF_MEMORY = {"out_of_memory", "predicted_out_of_memory"}


def failures(records: Sequence[Record]) -> str:
    """With the bytes asked for and free where a cell ran, or was predicted to run, out of memory."""
    rows = [line(record) for record in sorted(records, key=lambda record: record.name) if record.status != "ok"]
    head = ["cell", "status", "phase", "asked", "free", "why"]
    if not any(record.status in OF_MEMORY for record in records):
        head, rows = [*head[:3], *head[5:]], [[*row[:3], *row[5:]] for row in rows]
    return f"## Cells that did not finish\n\n{table(head, rows, left=len(head))}" if rows else ""


def line(record: Record) -> list[str]:
    failure = record.failure
    if failure is None:
        return [text(record.name), record.status, *[UNKNOWN] * 4]
    asked = [failure.bytes_asked, failure.bytes_free] if record.status in OF_MEMORY else [None, None]
    return [text(record.name), record.status, text(failure.phase), *map(_bytes, asked), text(why(failure))]


def why(failure: Failure) -> str:
    why = failure.exception.partition("\n")[0][:120]
    witness = failure.inferred_from
    return why if witness is None else f"inferred from {witness}: {why}"


def _bytes(value: int | None) -> str:
    """In a unit of its own: a prompt that did not fit and a device have no common one."""
    unit = "GiB" if (value or 0) >= UNITS["GiB"] else "MiB"
    return UNKNOWN if value is None else f"{size(value, unit)} {unit}"
