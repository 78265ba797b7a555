"""Lines under tables: what ranks and intervals there mean."""

from __future__ import annotations

from bench.board.analysis.grouping import Setting
from bench.board.analysis.ranks import LEVEL, POWER, Ranking
from bench.board.writers.tables import points


def ties(ranking: Ranking) -> str:
    """What a shared rank means, and how far apart rows have to be; nothing where none are compared."""
    if not ranking.pairs:
        return ""
    shared = "Rows that share a rank cannot be told apart."
    if ranking.seeds < 2:
        return f"{shared} With one seed this is about other test examples; what other seeds give is not known.\n"
    if ranking.detectable is None:
        return f"{shared}\n"
    found = f"a difference of {points(ranking.detectable)} points" if ranking.detectable < 1 else "no difference"
    return (
        f"{shared} With {ranking.seeds} seeds this table could have detected {found} (paired test over seeds, power "
        f"{100 * POWER:.0f} %, {100 - 100 * LEVEL:.0f} % after Holm over {_counted(ranking.pairs, 'pair')}).\n"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def one_seed(setting: Setting) -> str:
    rows = [row for row in setting.rows if len(row.scores) == 1 and row.interval]
    return "The interval of one seed is Wilson's over its test examples, not over seeds.\n" if rows else ""
