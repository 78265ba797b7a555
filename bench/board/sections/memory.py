"""Memory by owner: the table of a setting, and the sizes that other boards take from records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from bench.board.analysis.grouping import Row, Setting
from bench.board.writers.tables import number, size, table, text, unit
from bench.records.record import OWNERS, Memory, Record

Sizes = Mapping[str, int | None]  # bytes by column, None is not known

OWNER_COLUMNS = {owner: owner.replace("_", " ") for owner in OWNERS}
TRAIN, EVALUATE, PREDICTED, RATIO = "train peak", "evaluate peak", "predicted", "predicted / measured"
SHORT = (TRAIN, EVALUATE, PREDICTED)


def memory(setting: Setting) -> str:
    """A line for each row; nothing where no size is known."""
    in_unit, head, cells = columns(setting.rows)
    names = [[text(row.method), text(row.regularizer)] for row in setting.rows]
    lines = [[*name, *line] for name, line in zip(names, cells, strict=True)]
    made = table(["method", "regularizer", *head], lines, left=2)
    return f"Memory of the rank that needs most, {in_unit}:\n\n{made}" if head else ""


def columns(rows: Sequence[Row], chosen: Collection[str] | None = None) -> tuple[str, list[str], list[list[str]]]:
    """The unit, the head and the cells of every row; of all columns or of those `chosen` the ones with a size."""
    found = [sizes(row) for row in rows]
    known = [column for column in found[0] if any(one[column] for one in found)]
    head = [column for column in known if chosen is None or column in chosen]
    in_unit = unit(one[column] for one in found for column in head)
    cells = [[size(one[column], in_unit) for column in head] for one in found]
    ratios = [ratio(one) for one in found]
    if any(one is not None for one in ratios):
        head.append(RATIO)
        cells = [[*line, number(one, 2)] for line, one in zip(cells, ratios, strict=True)]
    return in_unit, head, cells


def sizes(row: Row) -> Sizes:
    """By owner at the peak of a training step, of the seed and the rank that need most; then the peaks."""
    record = neediest_record(row)
    train = neediest([record], "train")
    made: dict[str, int | None] = {
        column: train.owners.get(owner) if train else None for owner, column in OWNER_COLUMNS.items()
    }
    made[TRAIN] = train.peak_allocated_bytes if train else None
    made["least of the ranks"] = least_peak(record, "train")
    made["reserved"] = train.peak_reserved_bytes if train else None
    made["outside the allocator"] = train.outside_allocator_bytes if train else None
    for column, phase in ((EVALUATE, "evaluate"), ("set-up peak", "setup")):
        most = neediest(row.finished, phase)
        made[column] = most.peak_allocated_bytes if most else None
    made[PREDICTED] = predicted_peak(record)
    return made


def ratio(of: Sizes) -> float | None:
    predicted, measured = of[PREDICTED], of[TRAIN]
    return predicted / measured if predicted is not None and measured else None


def neediest_record(row: Row) -> Record:
    """That of the seed whose training needs most; where none was measured, one with a prediction if there is one."""

    def needs(record: Record) -> tuple[int, int]:
        most = neediest([record], "train") if record.status == "ok" else None
        return (most.peak_allocated_bytes or 0) if most else 0, predicted_peak(record) or 0

    return max(row.records, key=needs)


def neediest(records: Iterable[Record], phase: str) -> Memory | None:
    """Of all their ranks in `phase` the one with the highest peak."""
    known = [one for record in records for one in _measured(record, phase)]
    return max(known, key=lambda one: one.peak_allocated_bytes or 0, default=None)


def least_peak(record: Record, phase: str) -> int | None:
    """Of the rank with the lowest peak; None where there are not several."""
    peaks = [one.peak_allocated_bytes for one in _measured(record, phase) if one.peak_allocated_bytes is not None]
    return min(peaks) if len(peaks) > 1 else None


def _measured(record: Record, phase: str) -> list[Memory]:
    return [one for one in record.memory if one.phase == phase and one.peak_allocated_bytes is not None]


def predicted_peak(record: Record) -> int | None:
    """Of a training step, of what the measured peak is made of.

    Without a GPU what is offloaded to host memory lies beside all else and is measured with it; what is on NVMe is
    not, and then nothing is comparable.
    """
    predicted = record.predicted
    if predicted is None or "train" not in predicted.device:
        return None
    on_device = sum(predicted.device["train"].values())
    train = neediest([record], "train")
    if train is None or train.peak_reserved_bytes is not None or not predicted.host:
        return on_device
    return None if _uses_nvme(record) else on_device + sum(predicted.host.values())


def _uses_nvme(record: Record) -> bool:
    stage = record.cell.get("zero", {}).get("config", {}).get("zero_optimization", {})
    return any((stage.get(f"offload_{what}") or {}).get("device") == "nvme" for what in ("optimizer", "param"))
