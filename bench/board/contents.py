"""What every form of the board shows, made once: settings with ranks, published numbers, cards, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.board import claims
from bench.board.analysis.grouping import Row, Setting, candidate, settings
from bench.board.analysis.over_tasks import Summary, summaries
from bench.board.analysis.ranks import Ranking, ranked
from bench.board.analysis.stability import Steadiness, of_setting
from bench.board.claims import Verdict
from bench.board.sections import published
from bench.board.sections.published import Beside
from bench.records.published import Figure
from bench.records.record import Record
from bench.records.sample_cards import Card


@dataclass(frozen=True)
class Line:
    row: Row
    rank: int | None  # shared where methods cannot be told apart; None without a score


@dataclass(frozen=True)
class Table:
    """One setting."""

    setting: Setting
    ranking: Ranking
    lines: tuple[Line, ...]  # in the order of the setting's rows

    @cached_property
    def steadiness(self) -> list[Steadiness | None]:
        """Of each line, beside the plain one of its method."""
        return of_setting(self.setting)


@dataclass(frozen=True)
class Contents:
    records: Sequence[Record]
    cards: Sequence[Card] = ()

    @cached_property
    def settings(self) -> list[Setting]:
        return settings(self.records)

    @cached_property
    def tables(self) -> list[Table]:
        return [_table(setting) for setting in self.settings]

    @cached_property
    def summaries(self) -> list[Summary]:
        """Settings that differ in the task alone, put together."""
        return summaries(self.records)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the records make of the claims of papers, in the order they are stated."""
        return claims.verdicts(claims.load(), self.records)

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """What papers report, in the order of their files."""
        return published.shipped()

    @cached_property
    def beside(self) -> list[Beside]:
        """Published numbers that stand beside ours."""
        return published.comparisons(self.settings, self.figures)

    @cached_property
    def around(self) -> list[Figure]:
        """Those that are told with none of ours."""
        return published.context(self.settings, self.figures, self.beside)


def _table(setting: Setting) -> Table:
    ranking = ranked(setting)
    lines = tuple(Line(row, rank) for row, rank in zip(setting.rows, ranking.rank, strict=True))
    return Table(setting, ranking, lines)


def short_method(row: Row) -> str:
    """Without the hyper-parameters that were chosen, which a paper has elsewhere."""
    chosen = candidate(row.records[0].cell)
    return row.method if chosen is None else row.method.removesuffix(f" (chosen: {chosen})")


def short_name(row: Row) -> str:
    """The method, with its regularizer if it has one."""
    method = short_method(row)
    return method if row.regularizer == "none" else f"{method} with {row.regularizer}"
