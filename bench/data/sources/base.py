"""What a source gives: rows by split, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Splits = Mapping[str, tuple[str, ...]]  # train, test, dev -> names of files
Row = tuple[str, dict[str, Any]]  # the place, as `line 3`, and the fields


@dataclass(frozen=True)
class Part:
    """The rows of one file, or of what is like one."""

    name: str
    where: str  # what an error names: the file, or the address on the hub
    rows: list[Row]


@dataclass(frozen=True)
class Source:
    parts: dict[str, list[Part]]  # by split
    origin: str  # what a record says of it: folder sst2; hub owner/name config @commit
