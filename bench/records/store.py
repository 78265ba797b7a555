"""The folder of records: a file per cell, written once and atomically, read with any schema that this version knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.core import files
from bench.core.redaction import redacted
from bench.records.record import SCHEMA, Record

LIMIT = 2**27  # bytes of a record
# in which libraries say whatever they like
FREE_TEXT = (("failure", "exception"), ("failure", "log"), ("quality", "origin"))
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}  # from schema n to n + 1


@dataclass
class Reading:
    """All records of a folder, by name, and a line for each file that is no record."""

    records: list[Record] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def now() -> str:
    """As records have it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def folder(results: Path) -> Path:
    return results / "records"


def path(results: Path, name: str) -> Path:
    return folder(results) / f"{name}.json"


def write(results: Path, record: Record) -> bool:
    """Write `record` unless its cell has one already; whether it was written. Secrets of the environment stay out."""
    plain = record.model_dump(mode="json")
    for part, name in FREE_TEXT:
        if plain[part] is not None:
            plain[part][name] = redacted(plain[part][name])
    content = json.dumps(plain, indent=1, ensure_ascii=False)
    return files.write_once(path(results, record.name), content + "\n", results / ".run")


def parse(content: str | bytes) -> Record:
    """A Record of any schema this version knows. ValueError says what is wrong."""
    try:
        record = Record.model_validate_json(content)
    except ValidationError:
        return _explained(content)
    return record if record.schema_version == SCHEMA else _explained(content)


def _explained(content: str | bytes) -> Record:
    """The same, step by step, of what is no Record of the present schema at once."""
    try:
        data = json.loads(content)
        json.dumps(data, ensure_ascii=False).encode()  # half a pair of surrogates, which no file can hold
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from error
    if not isinstance(data, dict) or not isinstance(data.get("schema_version"), int):
        raise ValueError("no record: schema_version is missing")
    while data["schema_version"] in MIGRATIONS:
        data = MIGRATIONS[data["schema_version"]](data)
    if data["schema_version"] != SCHEMA:
        raise ValueError(f"schema_version is {data['schema_version']}, this version reads 1..{SCHEMA}")
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def read(file: Path) -> Record:
    """The Record in a file of its name. ValueError or OSError says why it is none."""
    record = parse(files.read(file, LIMIT))
    if record.name != file.stem:
        raise ValueError(f"its name is {record.name}")
    return record


def read_all(results: Path, names: set[str] | None = None) -> Reading:
    """Every record below `results`, or those of these cells, sorted by name."""
    return read_folder(folder(results), names)


def read_folder(records: Path, names: set[str] | None = None) -> Reading:
    """The same of the folder that they are in. What is no record is named, and the rest goes on."""
    reading = Reading()
    for file in sorted(records.glob("*.json")):
        if names is not None and file.stem not in names:
            continue
        try:
            reading.records.append(read(file))
        except (ValueError, OSError) as error:
            reading.unreadable.append(f"{file}: {error}")
    return reading


def recorded(results: Path) -> set[str]:
    """The names of the cells that have a record; no file is opened."""
    return {file.stem for file in folder(results).glob("*.json")}
