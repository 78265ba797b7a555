"""What a check says of a host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Level = Literal["ok", "note", "warning", "fault"]


class Verdict(NamedTuple):
    """A fault would make a run fail, or its records say what is not so; a warning may; a note is to be known."""

    level: Level
    found: str
    remedy: str = ""  # what to do about it


@dataclass(frozen=True)
class Finding:
    host: str
    check: str
    level: Level
    found: str
    remedy: str


def ok(found: str) -> Verdict:
    return Verdict("ok", found)


def note(found: str, remedy: str = "") -> Verdict:
    return Verdict("note", found, remedy)


def warning(found: str, remedy: str) -> Verdict:
    return Verdict("warning", found, remedy)


def fault(found: str, remedy: str) -> Verdict:
    return Verdict("fault", found, remedy)


def size(count: int | None) -> str:
    """Bytes as people read them."""
    return "–" if count is None else f"{count / 2**30:.1f} GiB"
