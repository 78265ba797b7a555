"""Tables that other parts of the board give the page, as they are: over tasks, claims, published numbers, cards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.board import claims
from bench.board.analysis import over_tasks
from bench.board.analysis.over_tasks import Summary
from bench.board.contents import Contents
from bench.board.sections import published, samples


@dataclass(frozen=True)
class Section:
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]  # plain text, as it is shown
    note: str = ""


def sections(contents: Contents) -> list[Section]:
    """Those that have a row."""
    beside, around = contents.beside, contents.around
    reasons = " ".join(f"{place}. {why}" for place, why in enumerate(published.reasons(beside), 1))
    draws = samples.draws(contents.records, contents.cards) if contents.cards else []
    every = [
        *_over_tasks(contents.summaries),
        Section(*claims.section(contents.verdicts), "claims.md beside this page has how each is tested, and on what."),
        Section(published.HEADING, published.HEAD, published.lines(beside), f"{published.NOTE}{reasons}"),
        Section("Published elsewhere", *published.context_table(around), published.CONTEXT),
        Section(samples.HEADING, samples.HEAD, samples.lines(draws), "The lists of examples are in cards/."),
    ]
    return [one for one in every if one.rows]


def _over_tasks(summaries: Sequence[Summary]) -> Iterator[Section]:
    """With a number where several have the same title, and differ in their notes."""
    titles = [f"{over_tasks.HEADING}: {summary.title}" for summary in summaries]
    for place, (title, summary) in enumerate(zip(titles, summaries, strict=True)):
        number = f" ({titles[: place + 1].count(title)})" if titles.count(title) > 1 else ""
        note = f"{over_tasks.details(summary)} {over_tasks.notes(summary)}"
        yield Section(title + number, *over_tasks.tabled(summary), note)
