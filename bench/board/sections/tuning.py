"""How hyper-parameters were chosen: the candidates of each setting with their scores on dev. Test has no say in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.board.analysis.grouping import Spread, role
from bench.board.sections import titles
from bench.board.writers.tables import UNKNOWN, table, text
from bench.records.model_selection import best
from bench.records.record import Record

HEADING = "Hyper-parameters chosen on dev"
NOTE = (
    "Of each setting, the candidate with the best mean on dev over the tuning seeds is reported, with other seeds. "
    "One that failed with a seed is not chosen.\n"
)


@dataclass(frozen=True)
class Candidate:
    """One of the values to choose from, for one method in one setting."""

    setting: str  # task, regime, backbone
    method: str
    regularizer: str
    candidate: str
    dev: tuple[float | None, ...]  # for each tuning seed; None of what failed or has no record
    chosen: bool  # it is the best on dev
    reported: bool  # cells are reported with it


def tuning(records: Iterable[Record]) -> str:
    """A table of all choices in the records; nothing where there are none."""
    lines = sorted(_line(one) for one in candidates(records))
    head = ["setting", "method", "regularizer", "candidate", "dev %", "seeds", "chosen"]
    return f"## {HEADING}\n\n{NOTE}\n{table(head, lines, left=4)}" if lines else ""


def candidates(records: Iterable[Record]) -> list[Candidate]:
    """Of every setting that the records have tuning cells of, by the name of its first record."""
    by_setting: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.name):
        if role(record.cell) is not None:
            by_setting.setdefault(record.cell["tuning"]["setting"], []).append(record)
    return [one for several in by_setting.values() for one in _candidates(several)]


def _candidates(records: list[Record]) -> list[Candidate]:
    """Of one setting."""
    tried: dict[str, list[Record]] = {}
    for record in records:
        if role(record.cell) == "tune":
            tried.setdefault(record.cell["tuning"]["candidate"], []).append(record)
    reported = {record.cell["tuning"]["candidate"] for record in records if role(record.cell) == "report"}
    winner = best({candidate: _scores(several) for candidate, several in tried.items()})
    return [
        Candidate(
            setting=titles.subject(several[0]),
            method=several[0].labels.method,
            regularizer=several[0].labels.regularizer,
            candidate=candidate,
            dev=tuple(_scores(several)),
            chosen=candidate == winner,
            reported=candidate in reported,
        )
        for candidate, several in tried.items()
    ]


def _line(one: Candidate) -> list[str]:
    known = [score for score in one.dev if score is not None]
    mean = Spread.of(known).mean
    return [
        *(text(part) for part in (one.setting, one.method, one.regularizer, one.candidate)),
        UNKNOWN if mean is None else f"{100 * mean:.1f}",
        f"{len(known)} of {len(one.dev)}",
        "yes" if one.chosen else "reported, but not the best" if one.reported else "",
    ]


def _scores(records: list[Record]) -> list[float | None]:
    """On dev, of a candidate: one for each tuning seed, None of what failed or has no record."""
    found = {r.cell.get("seed"): r.quality.dev for r in records if r.status == "ok" and r.quality}
    return [found.get(seed) for seed in records[0].cell["tuning"]["seeds"]]
