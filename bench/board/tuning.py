"""How hyper-parameters were chosen: the candidates of each setting with their scores on dev. Test has no say in it."""

from __future__ import annotations

from collections.abc import Iterable

from bench.board import titles
from bench.board.grouping import Spread, role
from bench.board.tables import UNKNOWN, table, text
from bench.decision import best
from bench.records import Record

HEADING = "Hyper-parameters chosen on dev"
NOTE = (
    "Of each setting, the candidate with the best mean on dev over the tuning seeds is reported, with other seeds. "
    "One that failed with a seed is not chosen.\n"
)


def tuning(records: Iterable[Record]) -> str:
    """A table of all choices in the records; nothing where there are none."""
    by_setting: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.name):
        if role(record.cell) is not None:
            by_setting.setdefault(record.cell["tuning"]["setting"], []).append(record)
    lines = sorted(line for several in by_setting.values() for line in _lines(several))
    head = ["setting", "method", "regularizer", "candidate", "dev %", "seeds", "chosen"]
    return f"## {HEADING}\n\n{NOTE}\n{table(head, lines, left=4)}" if lines else ""


def _lines(records: list[Record]) -> list[list[str]]:
    """Of one setting."""
    tried: dict[str, list[Record]] = {}
    for record in records:
        if role(record.cell) == "tune":
            tried.setdefault(record.cell["tuning"]["candidate"], []).append(record)
    reported = {record.cell["tuning"]["candidate"] for record in records if role(record.cell) == "report"}
    winner = best({candidate: _scores(several) for candidate, several in tried.items()})
    lines: list[list[str]] = []
    for candidate, several in tried.items():
        labels, known = several[0].labels, [score for score in _scores(several) if score is not None]
        spread = Spread.of(known)
        lines.append(
            [
                text(titles.subject(several[0])),
                *(text(labels.method), text(labels.regularizer), text(candidate)),
                f"{100 * spread.mean:.1f}" if spread.mean is not None else UNKNOWN,
                f"{len(known)} of {len(_scores(several))}",
                "yes" if candidate == winner else "reported, but not the best" if candidate in reported else "",
            ]
        )
    return lines


def _scores(records: list[Record]) -> list[float | None]:
    """On dev, of a candidate: one for each tuning seed, None of what failed or has no record."""
    found = {r.cell.get("seed"): r.quality.dev for r in records if r.status == "ok" and r.quality}
    return [found.get(seed) for seed in records[0].cell["tuning"]["seeds"]]
