"""Where the rows of a task come from: a folder below BENCH_DATA, or the built-in world."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import toy
from bench.settings import InputError, Problem, shown
from bench.tasks import Task

Splits = Mapping[str, tuple[str, ...]]  # train, test, dev -> names of files


@dataclass(frozen=True)
class Part:
    """The rows of one file, or of what is like one."""

    name: str
    where: str  # what an error names: the file, or the address on the hub
    rows: list[tuple[str, dict[str, Any]]]  # the place, as `line 3`, and the fields


@dataclass(frozen=True)
class Source:
    parts: dict[str, list[Part]]  # by split
    origin: str  # what a record says of it: folder sst2; hub owner/name config @revision


def read(task: Task, splits: Splits, folder: str) -> Source:
    """The rows of `splits`. InputError says where it looked, or names file and line.

    `folder`: below BENCH_DATA.
    """
    if task.source == "built-in":
        made = {split: toy.examples(int(task.folder), split) for split in splits}
        parts = {
            split: [Part(split, f"task {task.name}", [(f"row {i}", row) for i, row in enumerate(rows, 1)])]
            for split, rows in made.items()
        }
        return Source(parts, "built-in")
    where = find(task, splits, folder)
    parts = {split: [_part(name, where / f"{name}.jsonl") for name in names] for split, names in splits.items()}
    return Source(parts, f"folder {folder}")


def find(task: Task, splits: Splits, folder: str) -> Path:
    """The folder of `task` below BENCH_DATA, which has all its splits. InputError says where it looked."""
    root = os.environ.get("BENCH_DATA")
    names = [name for several in splits.values() for name in several]
    wanted = ", ".join(f"{name}.jsonl" for name in names)
    if not root:
        message = f"is not set: task {task.name} expects {folder}/ with {wanted} in the folder it names"
        raise InputError("environment", [Problem("BENCH_DATA", message)])
    found = Path(root) / folder
    if not all((found / f"{name}.jsonl").is_file() for name in names):
        raise InputError("environment", [Problem("BENCH_DATA", f"task {task.name}: expected {wanted} in {found}")])
    return found


def _part(name: str, file: Path) -> Part:
    rows: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(str(file), [Problem(f"line {number}", str(error))]) from error
        if not isinstance(row, dict):
            raise InputError(str(file), [Problem(f"line {number}", f"found {shown(row)}, expected a JSON object")])
        rows.append((f"line {number}", row))
    if not rows:
        raise InputError(str(file), [Problem("file", "found no example, expected one JSON object a line")])
    return Part(name, str(file), rows)
