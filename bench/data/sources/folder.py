"""Rows of the files of a folder: JSON lines, CSV with a header, or Parquet."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.core.settings import InputError, Problem, shown
from bench.data.sources.base import Part, Row, Source, Splits
from bench.data.tasks import Task

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def find(splits: Splits, folder: str) -> dict[str, Path]:
    """The file of each name in `splits` that has one, in `folder` below BENCH_DATA; none where that is not set.

    InputError when a name has several.
    """
    root = os.environ.get("BENCH_DATA")
    if not root:
        return {}
    found: dict[str, Path] = {}
    for name in _names(splits):
        files = [file for suffix in READERS if (file := Path(root, folder, name + suffix)).is_file()]
        if len(files) > 1:
            message = f"found {' and '.join(file.name for file in files)}, expected one of them"
            raise InputError(str(files[0].parent), [Problem(name, message)])
        if files:
            found[name] = files[0]
    return found


def complete(splits: Splits, found: dict[str, Path]) -> bool:
    return all(name in found for name in _names(splits))


def wanted(splits: Splits, folder: str) -> str:
    """The files that are looked for, as a message says them."""
    first, *others = READERS
    return f"{folder}/ with {', '.join(name + first for name in _names(splits))} (or {' or '.join(others)})"


def read(task: Task, splits: Splits, folder: str, found: dict[str, Path]) -> Source:
    """The rows of the files that `find` gave. InputError when one is missing, or cannot be read."""
    if not complete(splits, found):
        raise InputError("environment", [Problem("BENCH_DATA", _missing(task, splits, folder, found))])
    parts = {split: [_part(task, name, found[name]) for name in names] for split, names in splits.items()}
    return Source(parts, f"folder {folder}")


def _names(splits: Splits) -> list[str]:
    return [name for several in splits.values() for name in several]


def _missing(task: Task, splits: Splits, folder: str, found: dict[str, Path]) -> str:
    root = os.environ.get("BENCH_DATA")
    if not root:
        return f"is not set: task {task.name} expects {wanted(splits, folder)} in the folder it names"
    lacking = ", ".join(name for name in _names(splits) if name not in found)
    return f"task {task.name}: expected {wanted(splits, folder)}, found no {lacking} in {Path(root, folder)}"


def _part(task: Task, name: str, file: Path) -> Part:
    rows = list(READERS[file.suffix](file, task))
    if not rows:
        raise InputError(str(file), [Problem("file", "found no example, expected one a line or row")])
    return Part(name, str(file), rows)


def _json_lines(file: Path, task: Task) -> Iterator[Row]:
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            row = json.loads(line, parse_constant=_no_number)
        except json.JSONDecodeError as error:
            raise _problem(file, place, f"{error.msg} at column {error.colno}, expected a JSON object") from error
        except (ValueError, RecursionError) as error:  # NaN, numbers and brackets beyond what Python reads
            raise _problem(file, place, str(error)) from error
        if not isinstance(row, dict):
            raise _problem(file, place, f"found {shown(row)}, expected a JSON object")
        yield place, row


def _no_number(name: str) -> None:
    raise ValueError(f"found {name}, expected a number, a text, true, false or null")


def _csv(file: Path, task: Task) -> Iterator[Row]:
    """Every value is a text; a label is the task's of the same text, where there is one."""
    labels = {str(label): label for label in task.labels}
    places = _records(file)
    header: list[str] = []
    for number, values in places:
        place = f"line {number}"
        if not header:
            header = values
            _check_header(file, place, header, task)
            continue
        if len(values) != len(header):
            raise _problem(file, place, f"found {len(values)} values, expected {len(header)}: {', '.join(header)}")
        row: dict[str, Any] = dict(zip(header, values, strict=True))
        if "label" in row:
            row["label"] = labels.get(row["label"], row["label"])
        yield place, row
    if not header:
        raise _problem(file, "file", f"found nothing, expected a header with {', '.join((*task.fields, 'label'))}")


def _records(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The line at which each record begins, and its values; a quoted value may go over several lines."""
    reader = csv.reader(_lines(file), strict=True)
    begins = 1
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _problem(file, f"line {begins}", f"{error}, expected values between commas") from error
        if values:
            yield begins, values
        begins = reader.line_num + 1


def _check_header(file: Path, place: str, header: list[str], task: Task) -> None:
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise _problem(file, place, f"found the column {' and '.join(twice)} more than once in the header")
    expected = () if task.form else (*task.fields, "label")  # a form alone knows what it reads
    if missing := [name for name in expected if name not in header]:
        message = f"found {shown(header)}, expected a header with {', '.join(expected)}"
        raise _problem(file, place, f"{message}: {' and '.join(missing)} missing")


def _parquet(file: Path, task: Task) -> Iterator[Row]:
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise _problem(file, "file", f"found the column {' and '.join(twice)} more than once")
            rows: list[dict[str, Any]] = opened.read().to_pylist()
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        message = f"{str(error).splitlines()[0]}: expected a whole Parquet file with texts in UTF-8"
        raise _problem(file, "file", message) from error
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _lines(file: Path) -> list[str]:
    """With their ends. A line ends where bytes say so: a text may hold what Unicode takes for a line's end."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _problem(file, "file", f"{error.strerror}, expected a file that can be read") from error
    lines: list[str] = []
    for number, line in enumerate(content.removeprefix(BYTE_ORDER_MARK).splitlines(keepends=True), 1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            message = f"found the byte {line[error.start]:#04x} at position {error.start + 1}, expected UTF-8"
            raise _problem(file, f"line {number}", message) from error
    return lines


def _problem(file: Path, place: str, message: str) -> InputError:
    return InputError(str(file), [Problem(place, message)])


READERS: dict[str, Callable[[Path, Task], Iterator[Row]]] = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}
