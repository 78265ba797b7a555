"""Where the second set of records is worse than the first by more than measured noise; see bench.board.diff.noise.

The bounds of all rows and quantities share one rate of false alarms, by Šidák's correction: with independent noise
the gate fails in 5 % of the cases in which nothing changed. Improvements never fail.
Of 4,000 simulated comparisons of 8 bounds over 5 seeds it failed in 5.2 %, with 2 repeats of each cell in 4.9 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.board.diff.changes import PEAK, TEST, TOKENS, Quantity, Row
from bench.board.diff.difference import Difference
from bench.board.diff.noise import Measured, Repeats, measure

GATED = (TEST, TOKENS, PEAK)
FALSE_ALARMS = 0.05  # of the whole gate
ROUNDING = 1e-9  # on the compared scale
GIVEN = "as given"
NO_REPEAT, NOT_KNOWN = "no repeat", "not known in B"


@dataclass(frozen=True)
class Limit:
    """Of one quantity in one row."""

    row: Row
    quantity: Quantity
    measured: Measured
    allowed: float  # change for the worse, on the compared scale
    source: str  # of `allowed`

    @property
    def regressed(self) -> bool:
        change = self.measured.after - self.measured.before
        return self.quantity.worse * change > self.allowed + ROUNDING


@dataclass(frozen=True)
class Gate:
    limits: list[Limit]
    not_gated: list[tuple[Row, Quantity, str]]  # with why
    missing: list[tuple[str, str]]  # cells that are ok in the first, with their status in the second

    @property
    def regressions(self) -> list[Limit]:
        return [limit for limit in self.limits if limit.regressed]

    @property
    def passed(self) -> bool:
        return not (self.regressions or self.missing)


def gate(
    difference: Difference,
    repeats: Repeats | None = None,
    given: Mapping[Quantity, float] | None = None,
    allow_missing: bool = False,
) -> Gate:
    """`given`: what is allowed of a quantity instead of its bounds, on the compared scale."""
    given, repeats = given or {}, repeats or {}
    places = [(row, quantity) for row in difference.rows for quantity in GATED]
    found = [(row, quantity, measure(row, quantity, repeats)) for row, quantity in places]
    bounded = sum(one is not None and one.freedom > 0 and quantity not in given for _, quantity, one in found)
    rate = 1 - (1 - FALSE_ALARMS) ** (1 / max(bounded, 1))
    made = Gate([], [], [] if allow_missing else missing(difference))
    for row, quantity, measured in found:
        if measured is None:
            lost = any(pair.finished and quantity.value(pair.first) is not None for pair in row.pairs)
            made.not_gated.extend([(row, quantity, NOT_KNOWN)] if lost else [])
        elif quantity in given:
            made.limits.append(Limit(row, quantity, measured, given[quantity], GIVEN))
        elif measured.freedom:
            made.limits.append(Limit(row, quantity, measured, measured.bound(rate), f"by {measured.source}"))
        else:
            made.not_gated.append((row, quantity, NO_REPEAT))
    return made


def missing(difference: Difference) -> list[tuple[str, str]]:
    ended = [(pair.first.name, pair.second.status) for pair in difference.ended_otherwise if pair.first.status == "ok"]
    absent = [(record.name, "absent") for record in difference.matching.only_first if record.status == "ok"]
    return sorted(ended + absent)
