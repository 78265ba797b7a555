"""What every form of the board shows, made once: settings with ranks and intervals, published numbers, cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.board import published
from bench.board.grouping import Row, Setting, candidate, settings
from bench.board.ranks import Ranking, ranked
from bench.board.statistics import Interval, mean_interval
from bench.cards import Card
from bench.published import Figure
from bench.records import Record


@dataclass(frozen=True)
class Line:
    """A row of a table with what statistics say of it."""

    row: Row
    rank: int | None  # shared where methods cannot be told apart; None without a score
    interval: Interval | None  # of the mean on test, over seeds

    @property
    def values(self) -> list[float]:
        """On test, by seed."""
        return [record.quality.test for record in self.row.finished if record.quality]

    @property
    def method(self) -> str:
        """Without the hyper-parameters that were chosen, which a paper has elsewhere."""
        chosen = candidate(self.row.records[0].cell)
        return self.row.method if chosen is None else self.row.method.removesuffix(f" (chosen: {chosen})")

    @property
    def name(self) -> str:
        return self.method if self.row.regularizer == "none" else f"{self.method} with {self.row.regularizer}"


@dataclass(frozen=True)
class Table:
    """One setting."""

    setting: Setting
    ranking: Ranking
    lines: tuple[Line, ...]  # in the order of the setting's rows


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
    def figures(self) -> tuple[Figure, ...]:
        """What papers report, in the order of their files."""
        return published.shipped()


def _table(setting: Setting) -> Table:
    ranking = ranked(setting)
    lines = [Line(row, rank, None) for row, rank in zip(setting.rows, ranking.rank, strict=True)]
    return Table(setting, ranking, tuple(Line(one.row, one.rank, mean_interval([one.values])) for one in lines))
