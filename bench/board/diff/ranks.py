"""Ranks by mean test within a setting, and the rows that changed theirs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.board.diff.changes import Judged


@dataclass(frozen=True)
class RankMove:
    """Ranks are among the rows that both sides have, over the seeds that both sides have; equal means share one."""

    judged: Judged  # of test: a row whose own score did not move was passed, or is within its noise
    before: int
    after: int


def rank_moves(judged: Iterable[Judged]) -> list[RankMove]:
    """The rows whose rank is another, in their order."""
    by_setting: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        by_setting[one.row.setting].append(one)
    return [move for setting in by_setting.values() for move in _moves(setting)]


def _moves(setting: Sequence[Judged]) -> list[RankMove]:
    ranks = [_ranks([one.change.before for one in setting]), _ranks([one.change.after for one in setting])]
    made = [RankMove(*found) for found in zip(setting, *ranks, strict=True)]
    return [move for move in made if move.before != move.after]


def _ranks(means: Sequence[float]) -> list[int]:
    """Of each, the highest first."""
    return [1 + sum(mean > own for mean in means) for own in means]
