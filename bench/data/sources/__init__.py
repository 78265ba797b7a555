"""Where the rows of a task come from: a folder below BENCH_DATA, the Hugging Face hub, or the built-in world."""

from __future__ import annotations

from bench.data.sources import folder as files
from bench.data.sources import hub
from bench.data.sources.base import Part, Source, Splits
from bench.data.sources.repository import resolved, use
from bench.data.tasks import Hub, Task
from bench.models import toy

__all__ = ["Part", "Source", "Splits", "read", "resolved", "use"]


def read(task: Task, splits: Splits, folder: str, address: Hub | None) -> Source:
    """The rows of `splits`, from `folder` below BENCH_DATA or, where none of its files is there, from `address`.

    InputError says where it looked, or names file, place, field, what was found and what was expected.
    """
    if task.source == "built-in":
        return _built_in(task, splits)
    if task.source == "hub" and address is not None:
        return hub.read(task, splits, address, files.wanted(splits, folder))
    found = files.find(splits, folder)
    if task.source == "auto" and address is not None and not found:
        return hub.read(task, splits, address, files.wanted(splits, folder))
    return files.read(task, splits, folder, found)


def _built_in(task: Task, splits: Splits) -> Source:
    made = {split: toy.examples(int(task.folder), split) for split in splits}
    parts = {
        split: [Part(split, f"task {task.name}", [(f"row {i}", row) for i, row in enumerate(rows, 1)])]
        for split, rows in made.items()
    }
    return Source(parts, "built-in")
