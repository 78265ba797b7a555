"""Tables that other parts of the board give the page, as they are: claims, published numbers, few-shot cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.board import claims, published, samples
from bench.board.contents import Contents


@dataclass(frozen=True)
class Section:
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]  # plain text, as it is shown
    note: str = ""


def sections(contents: Contents) -> list[Section]:
    """Those that have a row."""
    beside = published.comparisons(contents.settings, contents.figures)
    around = published.context(contents.settings, contents.figures, beside)
    reasons = " ".join(f"{place}. {why}" for place, why in enumerate(published.reasons(beside), 1))
    draws = samples.draws(contents.records, contents.cards) if contents.cards else []
    every = [
        Section(*claims.section(contents.verdicts), "claims.md beside this page has how each is tested, and on what."),
        Section(published.HEADING, published.HEAD, published.lines(beside), f"{published.NOTE}{reasons}"),
        Section("Published elsewhere", *published.context_table(around), published.CONTEXT),
        Section(samples.HEADING, samples.HEAD, samples.lines(draws), "The lists of examples are in cards/."),
    ]
    return [one for one in every if one.rows]
