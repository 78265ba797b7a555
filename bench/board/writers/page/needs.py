"""What a row needs on each of its GPUs: measured, or predicted where a measurement is not there or says too much."""

from __future__ import annotations

from typing import Any

from bench.board.analysis.grouping import Row
from bench.records.record import Record

GPU, CPU, PREDICTED, UNKNOWN = "measured", "measured (CPU)", "predicted", "not known"


def need(row: Row) -> tuple[int | None, str]:
    """Bytes of the phase, rank and seed that need most, and where they are from.

    What a ZeRO configuration keeps in host memory is part of the live bytes that are measured without a GPU: there
    the prediction for a device goes before them.
    """
    measured = [size for record in row.finished if (size := _measured(record)) is not None]
    predicted = [record.predicted for record in row.records if record.predicted]
    foreseen = max((one.peak_bytes for one in predicted), default=None)
    if measured and (_on_gpu(row) or not any(sum(one.host.values()) for one in predicted)):
        return max(measured), GPU if _on_gpu(row) else CPU
    if foreseen is not None:
        return foreseen, PREDICTED
    return (max(measured), CPU) if measured else (None, UNKNOWN)


def micro_batch(cell: dict[str, Any]) -> int | None:
    """Examples of a pass on a rank."""
    whole, ranks = cell.get("batch_size"), cell.get("ranks")
    return cell.get("micro_batch_size") or (whole // ranks if whole and ranks else None)


def _measured(record: Record) -> int | None:
    peaks = [one.peak_allocated_bytes for one in record.memory]
    return max((peak for peak in peaks if peak is not None), default=None)


def _on_gpu(row: Row) -> bool:
    return any(one.peak_reserved_bytes is not None for record in row.finished for one in record.memory)
