"""`bench diff`: read, compare, print."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.board.diff.changes import PEAK, TEST, TOKENS, Quantity
from bench.board.diff.content import content
from bench.board.diff.difference import Difference, compare
from bench.board.diff.gate import Gate, gate
from bench.board.diff.noise import Repeats, repeats_of
from bench.board.diff.report import gate_lines, parts
from bench.cli.terminal import fail, print_table, read


@dataclass(frozen=True)
class Gating:
    """What `--gate` goes by."""

    repeats: Sequence[Path] = ()
    max_quality_drop: float | None = None  # points of a score from 0 to 100
    max_slowdown: float | None = None  # per cent that tokens/s may fall by
    max_memory_growth: float | None = None  # per cent
    allow_missing: bool = False

    @property
    def given(self) -> Mapping[Quantity, float]:
        """As quantities are compared; what is no such number ends the command."""
        drop = _number("--max-quality-drop", self.max_quality_drop)
        slowdown = _number("--max-slowdown", self.max_slowdown, below=100)
        growth = _number("--max-memory-growth", self.max_memory_growth)
        made = {
            TEST: None if drop is None else drop / 100,
            TOKENS: None if slowdown is None else -math.log1p(-slowdown / 100),
            PEAK: None if growth is None else math.log1p(growth / 100),
        }
        return {quantity: allowed for quantity, allowed in made.items() if allowed is not None}


def command(first: Path, second: Path, gating: Gating | None, every_row: bool, as_json: bool) -> int:
    """The exit status: 1 on a regression. InputError and `fail` say what cannot be compared."""
    difference = compare(read(first, bare=True), read(second, bare=True))
    verdict = gated(difference, gating) if gating else None
    if as_json:
        print(json.dumps(content(difference, verdict), indent=1, ensure_ascii=False))
    else:
        printed(difference, verdict, every_row)
    return 0 if verdict is None or verdict.passed else 1


def gated(difference: Difference, gating: Gating) -> Gate:
    if not difference.matching.pairs:
        fail("command line: --gate: no cell of A is in B, expected results of the same cells")
    made = gate(difference, repeated(difference, gating.repeats), gating.given, gating.allow_missing)
    if not made.limits and not made.missing:
        options = "--repeats FOLDER, --max-quality-drop, --max-slowdown or --max-memory-growth"
        fail(f"command line: --gate: no row has two seeds in A and B, expected several seeds, {options}")
    return made


def repeated(difference: Difference, places: Sequence[Path]) -> Repeats:
    first = [pair.first for pair in difference.matching.pairs]
    again = [read(place, bare=True) for place in places]
    for place, records in zip(places, again, strict=True):
        if not repeats_of(first, [records]):
            fail(f"{place}: --repeats: no record of a cell that A and B have, other than A's own")
    return repeats_of(first, again)


def printed(difference: Difference, verdict: Gate | None, every_row: bool) -> None:
    for part in parts(difference, every_row):
        print(part.line)
        if part.rows:
            print_table(part.head, part.rows)
            print()
    if verdict:
        print(*gate_lines(verdict), sep="\n")


def _number(option: str, value: float | None, below: float = math.inf) -> float | None:
    if value is not None and not 0 <= value < below:
        expected = "a finite number" if below == math.inf else f"less than {below:g}"
        fail(f"command line: {option}: found {value:g}, expected {expected}")
    return value
