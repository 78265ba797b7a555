"""Why matched cells may differ: code, libraries, hardware, data, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from bench.board.analysis.grouping import key_of
from bench.board.diff.matching import Matching, Pair, content, differing, nearest
from bench.records.record import Environment, Quality, Record

Kind = tuple[str, str | None, str | None]


class Reason(NamedTuple):
    """One difference and in how many pairs of cells it is; None where a side has nothing there."""

    what: str  # environment.commit, versions.torch, data.sample, settings.steps
    first: str | None
    second: str | None
    cells: int


def reasons(pairs: Iterable[Pair]) -> list[Reason]:
    """Each distinct difference of environment, data or settings once: the kinds by name, the most frequent first.

    What only one side tells of, since the other's cell was not run or did not finish, is no difference.
    """
    return _counted(kind for pair in pairs for kind in [*_facts_apart(pair), *_settings_apart(pair)])


def nearly(matching: Matching) -> list[Reason]:
    """The settings in which cells of one side only differ from the one on the other side that is most like each."""
    return _counted(kind for pair in nearest(matching) for kind in _settings_apart(pair))


def facts(record: Record) -> dict[str, dict[str, str | None]]:
    """What is known of a record beside its cell, by kind."""
    made: dict[str, dict[str, str | None]] = {}
    if record.environment:
        made["environment"] = _environment(record.environment)
        made["versions"] = dict(record.environment.versions)
    if record.quality:
        made["data"] = _data(record.quality)
    return made


def _environment(found: Environment) -> dict[str, str | None]:
    return {
        "commit": found.commit and found.commit[:10] + (" with changes" if found.dirty else ""),
        "accelerator": found.accelerator,
        "hosts": ", ".join(sorted(found.hosts)),
        "threads": str(found.threads),
        "kernels": found.kernels,
        "launcher": found.launcher,
        "alone": None if found.alone is None else str(found.alone),
    }


def _data(found: Quality) -> dict[str, str | None]:
    return {"hash": found.data, "sample": found.sample, "origin": found.origin}


def _facts_apart(pair: Pair) -> list[Kind]:
    first, second = facts(pair.first), facts(pair.second)
    both = sorted(first.keys() & second.keys())
    return [(path, one, other) for kind in both for path, one, other in differing(first[kind], second[kind], kind)]


def _settings_apart(pair: Pair) -> list[Kind]:
    first, second = content(pair.first.cell), content(pair.second.cell)
    return [(f"settings.{path}", _text(one), _text(other)) for path, one, other in differing(first, second)]


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else key_of(value)


def _counted(found: Iterable[Kind]) -> list[Reason]:
    """By kind, the most frequent first."""
    made = [Reason(*kind, cells) for kind, cells in Counter(found).items()]
    return sorted(made, key=lambda one: (one.what, -one.cells, str(one.first), str(one.second)))
