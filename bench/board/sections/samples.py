"""Few-shot cards on the board: what each seed trained on, and whether the rows of a table trained on the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.board.analysis.grouping import Setting
from bench.board.writers.tables import UNKNOWN, table, text
from bench.records.record import Record
from bench.records.sample_cards import Card

HEADING = "Few-shot cards"
HEAD = ("task", "regime", "seed", "sample", "origin", "train/dev/test by class", "cells")


@dataclass(frozen=True)
class Draw:
    """The examples of one task, regime and seed."""

    task: str
    regime: str
    seed: int | None
    sample: str
    origin: str
    cells: int  # that trained on them and finished
    card: Card | None  # None: there is none beside the records

    @property
    def classes(self) -> str:
        """How many examples of each class are in train, dev and test: `0 50/500/942, 1 50/500/1058`."""
        if self.card is None:
            return UNKNOWN
        return ", ".join(f"{label} {'/'.join(map(str, counts))}" for label, counts in self.card.classes.items())


def draws(records: Iterable[Record], cards: Iterable[Card]) -> list[Draw]:
    """By task, regime and seed; those of tuning cells among them."""
    by_sample = {card.sample: card for card in cards}
    found: dict[tuple[str, str, int | None, str, str], int] = {}
    for record in records:
        if record.quality is not None:
            quality, labels = record.quality, record.labels
            key = (labels.task, labels.regime, record.cell.get("seed"), quality.sample, quality.origin)
            found[key] = found.get(key, 0) + 1
    ordered = sorted(found.items(), key=lambda one: (*one[0][:2], -1 if one[0][2] is None else one[0][2], *one[0][3:]))
    return [Draw(*key, cells, by_sample.get(key[3])) for key, cells in ordered]


def lines(found: Iterable[Draw]) -> list[list[str]]:
    """The cells of HEAD, as plain text."""
    return [
        [one.task, one.regime, _shown(one.seed), one.sample, one.origin, one.classes, str(one.cells)] for one in found
    ]


def samples(records: Sequence[Record], cards: Sequence[Card]) -> str:
    """Markdown: a table behind one line; nothing without cards."""
    if not cards:
        return ""
    rows = [[text(cell) for cell in line] for line in lines(draws(records, cards))]
    made = table(HEAD, rows, left=6)
    summary = "<summary>The examples of each seed; their lists are in cards/</summary>"
    return f"## {HEADING}\n\n<details>\n{summary}\n\n{made}\n</details>\n" if rows else ""


def mixed(setting: Setting) -> list[str]:
    """A line for each seed with which rows of a table trained on different examples: they are not comparable."""
    by_seed: dict[int | None, dict[str, list[str]]] = {}
    for row in setting.rows:
        for record in row.finished:
            if record.quality is not None:
                of_seed = by_seed.setdefault(record.cell.get("seed"), {})
                of_seed.setdefault(record.quality.sample, []).append(row.name)
    return [
        f"seed {_shown(seed)}: methods were trained on different examples: {_sides(found)}"
        for seed, found in sorted(by_seed.items(), key=lambda one: -1 if one[0] is None else one[0])
        if len(found) > 1
    ]


def _sides(found: dict[str, list[str]]) -> str:
    return "; ".join(f"{sample} {', '.join(names)}" for sample, names in sorted(found.items()))


def _shown(seed: int | None) -> str:
    return UNKNOWN if seed is None else str(seed)
