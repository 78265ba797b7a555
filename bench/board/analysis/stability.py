"""Stability over seeds: the spread of each row's test scores, and whether a regularizer makes it smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.board.analysis.grouping import Row, Setting, plain_rows
from bench.board.analysis.statistics import Ratio, Strata, brown_forsythe, deviation_ratio, holm
from bench.board.writers.tables import UNKNOWN, number, p_value, points, span, table, text

LEVEL = 0.95
HEAD = ["method", "regularizer", "seeds", "sd", "min", "max", "range"]
COMPARED = ["sd / plain sd", "95 % of ratio", "p (Holm)", "verdict"]
NOTE = (
    "The ratio is that of the standard deviation to that of the same method without a regularizer, with its 95 % "
    "bootstrap interval; p is of Brown and Forsythe's test, corrected over the table (Holm). Where the two agree, a "
    "row is steadier or less steady.\n"
)

Verdict = Literal["steadier", "less steady", "cannot say"]


@dataclass(frozen=True)
class Steadiness:
    """Of a regularized row beside the plain one of its method."""

    ratio: Ratio | None  # of the standard deviations; below 1 the regularized row is steadier
    p: float | None  # Brown and Forsythe, corrected for all comparisons of the table

    @property
    def verdict(self) -> Verdict:
        """What interval and test agree on."""
        if self.ratio is None or self.p is None or self.p >= 1 - LEVEL:
            return "cannot say"
        low, high = self.ratio.interval.low, self.ratio.interval.high
        return "steadier" if high < 1 else "less steady" if low > 1 else "cannot say"


def steadiness(rows: Sequence[Strata], plain: Sequence[Strata | None]) -> list[Steadiness | None]:
    """Of every row of a table with a plain one beside it; both as scores by stratum."""
    pairs = list(zip(rows, plain, strict=True))
    corrected = holm([None if beside is None else brown_forsythe(row, beside) for row, beside in pairs])
    return [
        None if beside is None else Steadiness(deviation_ratio(row, beside, LEVEL), p)
        for (row, beside), p in zip(pairs, corrected, strict=True)
    ]


def of_setting(setting: Setting) -> list[Steadiness | None]:
    """Of its rows, in their order."""
    plain = [beside and [beside.scores] for beside in plain_rows(setting)]
    return steadiness([[row.scores] for row in setting.rows], plain)


def stability(setting: Setting, found: Sequence[Steadiness | None]) -> str:
    """A line for each row of two seeds or more; nothing where there is none."""
    rows = [(row, one) for row, one in zip(setting.rows, found, strict=True) if len(row.scores) > 1]
    iqm = any(row.interquartile_mean is not None for row, _ in rows)
    against = any(one is not None for _, one in rows)
    head = [*HEAD, *(["IQM"] if iqm else []), *(COMPARED if against else [])]
    lines = [[*_spread(row, iqm), *(compared(one) if against else [])] for row, one in rows]
    note = f"\n{NOTE}" if against else ""
    return f"Stability over seeds, test %:\n\n{table(head, lines, left=2)}{note}" if rows else ""


def _spread(row: Row, iqm: bool) -> list[str]:
    low, high = min(row.scores), max(row.scores)
    return [
        *(text(row.method), text(row.regularizer), str(len(row.scores))),
        *(points(value) for value in (row.test.deviation, low, high, high - low)),
        *([points(row.interquartile_mean)] if iqm else []),
    ]


def compared(one: Steadiness | None) -> list[str]:
    """The cells of COMPARED; empty for a row that is compared with none."""
    if one is None:
        return [""] * len(COMPARED)
    ratio = one.ratio
    shown = [number(ratio.value, 2), span(ratio.interval, 2)] if ratio else [UNKNOWN, UNKNOWN]
    return [*shown, p_value(one.p), one.verdict]
