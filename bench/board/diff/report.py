"""A Difference and its Gate as text: lines and tables for a terminal."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from bench.board.diff.changes import DEV, PEAK, STEP, TEST, TOKENS, VERDICTS, Judged, Quantity, Row
from bench.board.diff.difference import Difference
from bench.board.diff.gate import FALSE_ALARMS, GIVEN, Gate, Limit
from bench.board.diff.ranks import RankMove
from bench.board.diff.reasons import Reason
from bench.board.writers.tables import UNKNOWN, number

LISTED = 20  # names of cells, at most
VALUES = 3  # of one kind of reason, at most
GROUPS = {"Quality": (TEST, DEV), "Speed": (TOKENS, STEP), "Memory": (PEAK,)}
ROW = ("setting", "method", "regularizer")
HEAD = (*ROW, "", "seeds", "A", "B", "change", "95 %", "p", "verdict")
FLIPS = ("lost", "gained", "p of examples")
# a quantity -> its name with the unit, what makes the unit of the record's, decimals
UNITS = {
    TEST: ("test %", 100, 1),
    DEV: ("dev %", 100, 1),
    TOKENS: ("tokens/s", 1, 0),
    STEP: ("step ms", 1, 1),
    PEAK: ("peak MiB/rank", 2**-20, 1),
}


class Part(NamedTuple):
    """A line, and under it a table or nothing."""

    line: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def parts(difference: Difference, every_row: bool = False) -> list[Part]:
    """Rows that did not move beyond noise are counted; with `every_row` they are shown, too."""
    if difference.nothing_moved and not every_row:
        return [Part(f"Nothing moved{_within(difference)}: {counts(difference)}.")]
    made = [Part(f"{counts(difference)}."), *(moved(name, difference, every_row) for name in GROUPS)]
    made += [ranks(difference.rank_moves, every_row), why(difference.reasons), ended(difference)]
    matching = difference.matching
    for side, records in (("A", matching.only_first), ("B", matching.only_second)):
        made.append(Part(f"In {side} only: {several([record.name for record in records])}" if records else ""))
    made.append(reasons("They have a neighbour on the other side that differs in settings:", difference.nearly))
    return [part for part in made if part.line]


def counts(difference: Difference) -> str:
    matching = difference.matching
    made = f"{len(matching.pairs)} cells in both, {len(matching.only_first)} in A only"
    made += f", {len(matching.only_second)} in B only; {len(difference.rows)} rows"
    left = matching.left_out
    return made + (f"; tuning cells left out: {left[0]} of A, {left[1]} of B" if any(left) else "")


def moved(name: str, difference: Difference, every_row: bool) -> Part:
    places = {id(row): place for place, row in enumerate(difference.rows)}
    found = [one for quantity in GROUPS[name] for one in difference.judged[quantity]]
    shown = [one for one in found if every_row or one.verdict in ("moved", "not judged")]
    shown.sort(key=lambda one: places[id(one.row)])
    head = (*HEAD, *FLIPS) if name == "Quality" else HEAD
    sums = [f"{UNITS[quantity][0]} {verdicts(difference.judged[quantity])}" for quantity in GROUPS[name]]
    line = f"{name}, rows: {'; '.join(sums)}." if found else ""
    return Part(line, head, [cells(one)[: len(head)] for one in shown])


def verdicts(found: Sequence[Judged]) -> str:
    count = Counter(one.verdict for one in found)
    return ", ".join(f"{count[verdict]} {verdict}" for verdict in VERDICTS if count[verdict]) or "not known"


def cells(one: Judged) -> list[str]:
    """A line of the table under HEAD and FLIPS."""
    change = one.change
    name, unit, places = UNITS[change.quantity]
    means = [number(value * unit, places) for value in (change.before, change.after)]
    ends = (
        [step(change.quantity, end) for end in (change.interval.low, change.interval.high)] if change.interval else []
    )
    made = [*titles(one.row), name, str(len(change.first)), *means]
    made += [step(change.quantity, change.size), " to ".join(ends) or UNKNOWN, p_value(one.p), one.verdict]
    flips = one.row.flips if change.quantity is TEST else None
    return made + ([str(flips.lost), str(flips.gained), p_value(flips.p)] if flips else [""] * len(FLIPS))


def titles(row: Row) -> list[str]:
    return [row.setting, row.method, row.regularizer]


def step(quantity: Quantity, size: float) -> str:
    """A change in points, or as what the first is multiplied by; what is too small to show is no 0."""
    if not quantity.ratio:
        return f"{100 * size:+.2f}"
    return f"×1{size - 1:+.0e}" if 0 < abs(size - 1) < 0.0005 else f"×{size:.3f}"


def p_value(p: float | None) -> str:
    return UNKNOWN if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def ranks(moves: Sequence[RankMove], every_row: bool) -> Part:
    beyond = [move for move in moves if move.judged.verdict == "moved"]
    shown = moves if every_row else beyond
    rows = [[*titles(one.judged.row), str(one.before), str(one.after), one.judged.verdict] for one in shown]
    line = (
        f"Ranks by mean test: {len(moves)} rows have another; the scores of {len(beyond)} of them moved beyond noise."
    )
    return Part(line if moves else "", (*ROW, "rank in A", "in B", "verdict of test"), rows)


def why(found: Sequence[Reason]) -> Part:
    same = "Code, libraries, hardware, data and settings are the same in all that both tell."
    return reasons("Why they may differ:", found) if found else Part(same)


def reasons(title: str, found: Sequence[Reason]) -> Part:
    """Of each kind the most frequent."""
    rows: list[list[str]] = []
    for what, each in itertools.groupby(found, key=lambda reason: reason.what):
        kinds = list(each)
        rows += [[what, _known(one.first), _known(one.second), str(one.cells)] for one in kinds[:VALUES]]
        if more := kinds[VALUES:]:
            rows.append([what, f"and {len(more)} more", "", str(sum(one.cells for one in more))])
    return Part(title if found else "", ("what", "A", "B", "cells"), rows)


def ended(difference: Difference) -> Part:
    found = difference.ended_otherwise
    rows = [[pair.first.name, pair.first.status, pair.second.status] for pair in found[:LISTED]]
    more = f", the first {LISTED} of them" if len(found) > LISTED else ""
    return Part(f"Cells that ended otherwise: {len(found)}{more}." if found else "", ("cell", "A", "B"), rows)


def several(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _known(value: str | None) -> str:
    return UNKNOWN if value is None else value


def _within(difference: Difference) -> str:
    changed = any(one.verdict != "same" for found in difference.judged.values() for one in found)
    return " beyond noise" if changed else ""


def gate_lines(gate: Gate) -> list[str]:
    """One for each regression, one for each row that is not gated, and the sum of them."""
    found = [f"regression: {limited(limit)}" for limit in gate.regressions]
    found += [f"regression: {name}: ok in A, {status} in B" for name, status in gate.missing]
    left = [f"not gated: {row.title}: {UNITS[quantity][0]}: {why}" for row, quantity, why in gate.not_gated]
    measured = sum(limit.source != GIVEN for limit in gate.limits)
    bounds = f"{measured} bounds from measured noise, together {FALSE_ALARMS:.0%} false alarms" if measured else ""
    given = f"{len(gate.limits) - measured} as given" if measured < len(gate.limits) else ""
    parts = [f"{len(found)} regressions", bounds, given, f"{len(left)} not gated" if left else ""]
    return [*found, *left, f"gate: {'; '.join(filter(None, parts))}"]


def limited(limit: Limit) -> str:
    quantity, measured = limit.quantity, limit.measured
    name, unit, places = UNITS[quantity]
    before, after = (number(quantity.shown(value) * unit, places) for value in (measured.before, measured.after))
    change = step(quantity, quantity.shown(measured.after - measured.before))
    allowed = step(quantity, quantity.shown(quantity.worse * limit.allowed))
    return f"{limit.row.title}: {name} {before} -> {after} ({change}), allowed {allowed} {limit.source}"
