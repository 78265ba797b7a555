"""Which record of one set is of the same cell as which of another.

Names tell, being hashes of the content. Cells of other names are the same where their content is, without `tuning`
and without the folder that a backbone lies in, which its fingerprint stands for. Fields that only one side has came
with another version: they are passed over where that leaves one partner and no choice, and told as a difference.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.board.analysis.grouping import key_of, role
from bench.records.record import Record

LABELS = ("backbone", "task", "regime", "method", "regularizer", "head", "zero")


class Pair(NamedTuple):
    """The same cell in both sets."""

    first: Record
    second: Record

    @property
    def finished(self) -> bool:
        return self.first.status == self.second.status == "ok"


@dataclass(frozen=True)
class Matching:
    """All by name, tuning cells left out."""

    pairs: tuple[Pair, ...]
    only_first: tuple[Record, ...]
    only_second: tuple[Record, ...]
    left_out: tuple[int, int]  # tuning cells of both sides


class Differing(NamedTuple):
    """A field of two cells, None where a side has it not."""

    path: str  # method.recipe.learning_rate
    first: Any
    second: Any


def match(first: Iterable[Record], second: Iterable[Record]) -> Matching:
    sides = tuple(sorted(side, key=lambda record: record.name) for side in (first, second))
    left, right = ([record for record in side if role(record.cell) != "tune"] for side in sides)
    left_out = len(sides[0]) - len(left), len(sides[1]) - len(right)
    pairs: list[Pair] = []
    for key in (lambda record: record.name, lambda record: key_of(content(record.cell))):
        found = _alike(left, right, key)
        pairs += found
        left, right = _without(left, right, found)
    found = _compatible(left, right)
    left, right = _without(left, right, found)
    pairs = sorted([*pairs, *found], key=lambda pair: pair.first.name)
    return Matching(tuple(pairs), tuple(left), tuple(right), left_out)


def nearest(matching: Matching) -> list[Pair]:
    """Cells of one side only that are each other's only ones with these labels, ranks and seed."""
    return _alike(matching.only_first, matching.only_second, _labels)


def differing(first: Any, second: Any, path: str = "") -> Generator[Differing, None, None]:
    """The fields in which the contents of two cells differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({**first, **second}):
            yield from differing(first.get(key), second.get(key), f"{path}.{key}".lstrip("."))
    elif first != second:
        yield Differing(path, first, second)


def content(cell: dict[str, Any]) -> dict[str, Any]:
    """What makes the cell, as plain data: as in bench.matrix.cell, a backbone's folder is known by its fingerprint."""
    made = {key: value for key, value in cell.items() if key != "tuning"}
    backbone = made.get("backbone")
    if isinstance(backbone, dict):
        hidden = {"weighted", *(["location"] if backbone.get("source") == "folder" else [])}
        made["backbone"] = {key: value for key, value in backbone.items() if key not in hidden}
    return made


def _alike(left: Sequence[Record], right: Sequence[Record], key: Callable[[Record], str]) -> list[Pair]:
    """Those that alone on their side have the key that one alone on the other has."""
    keys = [[key(record) for record in side] for side in (left, right)]
    counts = [Counter(side) for side in keys]
    partners = dict(zip(keys[1], right, strict=True))
    return [
        Pair(record, partners[own])
        for record, own in zip(left, keys[0], strict=True)
        if counts[0][own] == counts[1][own] == 1
    ]


def _compatible(left: Sequence[Record], right: Sequence[Record]) -> list[Pair]:
    """Those that agree in the fields both have with one of the other side alone, which agrees with no other."""
    by_labels: dict[str, list[Record]] = defaultdict(list)
    for record in right:
        by_labels[_labels(record)].append(record)
    pairs = [
        Pair(one, other)
        for one in left
        for other in by_labels[_labels(one)]
        if _agree(content(one.cell), content(other.cell))
    ]
    firsts, seconds = (Counter(pair[side].name for pair in pairs) for side in (0, 1))
    return [pair for pair in pairs if firsts[pair.first.name] == seconds[pair.second.name] == 1]


def _agree(first: Any, second: Any) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return all(_agree(value, second[key]) for key, value in first.items() if key in second)
    return first == second


def _labels(record: Record) -> str:
    labels = [getattr(record.labels, name) for name in LABELS]
    return key_of([*labels, record.cell.get("ranks"), record.cell.get("seed")])


def _without(
    left: Sequence[Record], right: Sequence[Record], pairs: Sequence[Pair]
) -> tuple[list[Record], list[Record]]:
    """What `pairs` have not taken."""
    taken = [{pair[side].name for pair in pairs} for side in (0, 1)]
    return [one for one in left if one.name not in taken[0]], [one for one in right if one.name not in taken[1]]
