"""Tables in GitHub's form, and how strings and numbers look in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.board.analysis.statistics import Interval

UNKNOWN = "–"
UNITS = {"GiB": 2**30, "MiB": 2**20}
LARGE = 10  # GiB: from there on sizes are in GiB


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """GitHub's form, aligned also as plain text; the first `left` columns are set left, the rest right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        set_ = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        return f"| {' | '.join(set_)} |\n"

    rule = [f":{'-' * (w - 1)}" if i < left else f"{'-' * (w - 1)}:" for i, w in enumerate(widths)]
    return "".join(line(cells) for cells in (head, rule, *rows))


def text(value: str) -> str:
    """A string from a record, with what Markdown or HTML would take as markup made harmless."""
    for character, harmless in {
        "\\": "\\\\",  # first: those that follow bring their own
        "&": "&amp;",
        "<": "&lt;",
        "|": "\\|",
        "`": "\\`",
        "*": "\\*",
        "[": "\\[",
        "\n": " ",
        "\r": " ",
    }.items():
        value = value.replace(character, harmless)
    return value


def number(value: float | None, decimals: int) -> str:
    return UNKNOWN if value is None else f"{value:,.{decimals}f}"


def points(value: float | None) -> str:
    """A share as percentage points."""
    return number(None if value is None else 100 * value, 1)


def span(interval: Interval, decimals: int, factor: float = 1) -> str:
    return "–".join(number(factor * end, decimals) for end in (interval.low, interval.high))


def p_value(value: float | None) -> str:
    return "<0.001" if value is not None and value < 0.001 else number(value, 3)


def decimals(value: float) -> int:
    """So many that `value` has three digits."""
    found = 2 - math.floor(math.log10(abs(value))) if value else 0
    return min(max(found, 0), 8)


def unit(sizes: Iterable[int | None]) -> str:
    """The unit of a table with these bytes in it."""
    largest = max((size for size in sizes if size is not None), default=0)
    return "GiB" if largest >= LARGE * UNITS["GiB"] else "MiB"


def size(value: int | None, unit: str) -> str:
    """Bytes in `unit`; what is less than it can show is no zero."""
    shown = 2 if unit == "GiB" else 1
    if value is not None and 0 < value < 0.5 * 10**-shown * UNITS[unit]:
        return f"<{10**-shown}"
    return UNKNOWN if value is None else "0" if value == 0 else number(value / UNITS[unit], shown)
