"""All that is to be said of two sets of records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.board.diff import changes
from bench.board.diff.changes import QUANTITIES, TEST, Judged, Quantity, Row
from bench.board.diff.matching import Matching, Pair, match
from bench.board.diff.ranks import RankMove, rank_moves
from bench.board.diff.reasons import Reason, nearly, reasons
from bench.records.record import Record


@dataclass(frozen=True)
class Difference:
    matching: Matching
    rows: tuple[Row, ...]
    judged: dict[Quantity, list[Judged]]
    rank_moves: list[RankMove]
    reasons: list[Reason]
    nearly: list[Reason]  # in settings, of cells that one side only has

    @property
    def ended_otherwise(self) -> list[Pair]:
        """Cells with another status."""
        return [pair for pair in self.matching.pairs if pair.first.status != pair.second.status]

    @property
    def nothing_moved(self) -> bool:
        """Every cell is on both sides and ended alike, and nothing changed but within its noise."""
        moved = [one for found in self.judged.values() for one in found if one.verdict in ("moved", "not judged")]
        return not (moved or self.ended_otherwise or self.matching.only_first or self.matching.only_second)


def compare(first: Iterable[Record], second: Iterable[Record]) -> Difference:
    matching = match(first, second)
    rows = changes.rows(matching.pairs)
    judged = {quantity: changes.judge(rows, quantity) for quantity in QUANTITIES}
    return Difference(
        matching,
        tuple(rows),
        judged,
        rank_moves(judged[TEST]),
        reasons(matching.pairs),
        nearly(matching),
    )
