"""How verdicts are shown: claims.md, the rows of the page, plain data for scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from urllib.parse import quote

from bench.board.claims.claim import Claim
from bench.board.claims.matching import Line, Unit
from bench.board.claims.quantities import QUANTITIES
from bench.board.claims.verdict import Estimate, Verdict, over_lines, pooled
from bench.board.writers.tables import UNKNOWN, decimals, number, table, text
from bench.records.record import Record

TITLE = "Claims of the papers"
HEAD = ("claim", "verdict", "effect", "95 % interval", "cells", "tasks", "backbones")
INTRODUCTION = (
    "What two papers claim, as tests on the records: [PTP](https://arxiv.org/abs/2305.02423), perturbations against "
    "the instability of prompt tuning, and [LPT](https://arxiv.org/abs/2210.11292), a late prompt. `claims.yaml` "
    "states the claims, `bench claims` makes this file.\n"
)
RULE = (
    "Each compares two sides that share everything else (backbone, task, regime, steps, head, ...), over the same "
    "seeds. The effect is the mean over settings, its interval is bootstrapped over seeds within each; of the spread "
    "it is the ratio of standard deviations pooled over settings. **Supported**: the whole interval lies on the "
    "claimed side. **Contradicted**: on the other side. Else it is **not decided yet**, and also where the side that "
    "the figures speak for lost more seeds than the other by diverging or, for memory, by running out of it. A claim's "
    "parts are corrected for their number (Holm), the claims are not. Costs are compared on the same machine only; × "
    "is the first side's value through the second's.\n"
)


def section(verdicts: Sequence[Verdict]) -> tuple[str, list[str], list[list[str]]]:
    """Title, head and a row for each claim; plain text, nothing escaped."""
    return TITLE, list(HEAD), [[verdict.claim.claim, *_figures(verdict)] for verdict in verdicts]


def markdown(verdicts: Sequence[Verdict]) -> str:
    """A table of all claims, then each with its source, how it was tested, and the effect in every setting."""
    title, head, rows = section(verdicts)
    linked = [
        [f"[{text(row[0])}](#{verdict.claim.key})", *map(text, row[1:])]
        for row, verdict in zip(rows, verdicts, strict=True)
    ]
    parts = [f"# {title}\n", INTRODUCTION, RULE, table(head, linked, left=2), *map(_told, verdicts)]
    return "\n".join(parts)


def content(verdict: Verdict) -> dict[str, object]:
    """As plain data. Effects are in points, or the first side's value through the second's."""
    measured = verdict.estimate
    return {
        "key": verdict.claim.key,
        "part": verdict.part,
        "claim": verdict.claim.claim,
        "source": verdict.claim.source,
        "verdict": verdict.answer,
        "reason": verdict.reason or None,
        "effect": measured.effect,
        "low": measured.interval.low if measured.interval else None,
        "high": measured.interval.high if measured.interval else None,
        "unit": "ratio" if verdict.quantity.ratio else "points",
        "p": measured.p,
        "p_holm": verdict.corrected,
        "cells": len(verdict.records),
        "settings": len(verdict.units),
        "tasks": verdict.tasks,
        "backbones": verdict.backbones,
        "records": [record.name for record in verdict.records],
        "failed": {record.name: record.status for record in verdict.failed},
        "parts": [content(part) for part in verdict.parts],
    }


def _figures(verdict: Verdict) -> list[str]:
    """What HEAD has behind the claim."""
    counts = [len(verdict.records), len(verdict.tasks), len(verdict.backbones)]
    return [verdict.answer, *_effect(verdict, verdict.estimate), *map(str, counts)]


def _effect(verdict: Verdict, measured: Estimate) -> list[str]:
    """Effect and interval."""
    interval, quantity = measured.interval, verdict.quantity
    bounds = f"{quantity.shown(interval.low)} to {quantity.shown(interval.high)}" if interval else UNKNOWN
    return [quantity.effect(measured.effect), bounds]


def _told(verdict: Verdict) -> str:
    claim = verdict.claim
    lines = [
        f'<a id="{claim.key}"></a>\n\n## {text(claim.claim)}\n',
        f"{text(claim.source)}: “{text(claim.says)}”\n" if claim.says else f"{text(claim.source)}.\n",
        *([f"{text(claim.note)}\n"] if claim.note else []),
        f"{_test(claim)}\n",
        f"**{_capital(verdict.answer)}**{_why(verdict)}\n",
        *([_parts(verdict)] if verdict.parts else []),
        *([_breakdown(verdict)] if verdict.units else []),
        *([_records(verdict)] if verdict.units or verdict.failed else []),
    ]
    return "\n".join(lines)


def _test(claim: Claim) -> str:
    """How it is tested, in a sentence or two."""
    quantity = QUANTITIES[claim.quantity].told
    opposite = "lower" if claim.direction == "higher" else "higher"
    than = f"not {opposite} by {claim.margin:g} points or more" if claim.margin else claim.direction
    sides = f"first ({claim.first.told()}), second ({claim.second.told()})"
    both = f", both ({claim.where.told()})" if claim.where.told() else ""
    reason = f" The margin: {claim.because}" if claim.because else ""
    needed = f"At least {claim.seeds} seeds in a setting and {claim.tasks} {'task' if claim.tasks == 1 else 'tasks'}."
    return f"Tested: {quantity}, {than} on the first side. Sides: {text(sides + both)}. {needed}{text(reason)}"


def _why(verdict: Verdict) -> str:
    """What is behind the answer."""
    higher, lower = verdict.directions
    said = [verdict.reason] if verdict.reason else []
    if verdict.units:
        effect, interval = _effect(verdict, verdict.estimate)
        said.append(f"{effect}, 95 % interval {interval}")
        said.append(f"the first side is higher in {higher} and lower in {lower} of {len(verdict.units)} settings")
    if verdict.unused:
        said.append(f"with too few seeds: {verdict.unused} other settings")
    if verdict.failed:
        said.append(f"cells of both sides that did not finish: {len(verdict.failed)}, named below")
    return f": {'; '.join(said)}."


def _parts(verdict: Verdict) -> str:
    rows = [[text(str(part.part)), *_figures(part)[:4], _p(part.corrected)] for part in verdict.parts]
    return table(["part", *HEAD[1:5], "p (Holm)"], rows, left=2)


def _p(value: float | None) -> str:
    return UNKNOWN if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _breakdown(verdict: Verdict) -> str:
    """Every setting's own effect, of the whole claim and of its parts."""
    rows = [
        [text(unit.title), text(one.part or "all"), *_both(one.claim, unit), *_effect(one, own), str(len(unit.seeds))]
        for one in (verdict, *verdict.parts)
        for unit, own in zip(one.units, one.own, strict=True)
    ]
    rows.sort(key=lambda row: row[0])
    head = ["setting", "part", "first", "second", "effect", "95 % interval", "seeds"]
    if all(row[5] == UNKNOWN for row in rows):
        head, rows = [*head[:5], head[6]], [[*row[:5], row[6]] for row in rows]
    return f"<details>\n<summary>Each setting</summary>\n\n{table(head, rows, left=2)}\n</details>\n"


def _both(claim: Claim, unit: Unit) -> list[str]:
    """Both sides' own values: means over seeds, of ratios geometric ones, or standard deviations."""
    return [_value(claim, lines, unit.seeds) for lines in (unit.first, unit.second)]


def _value(claim: Claim, lines: Sequence[Line], seeds: Sequence[int]) -> str:
    if claim.quantity == "spread":
        return f"± {pooled(line.only(seeds) for line in lines):.2f}"
    ratio = QUANTITIES[claim.quantity].ratio
    values = over_lines(lines, seeds, ratio)
    mean = fmean(values)
    if claim.quantity == "test":
        return f"{mean:.2f}"
    value = math.exp(mean) / (2**20 if claim.quantity == "peak_bytes" else 1)
    return f"{number(value, decimals(value))}{' MiB' if claim.quantity == 'peak_bytes' else ''}"


def _records(verdict: Verdict) -> str:
    """Links to every record that counts, and to those that failed."""
    lines = [f"- {_link(record)}" for record in verdict.records]
    lines += [f"- {record.status.replace('_', ' ')}: {_link(record)}" for record in verdict.failed]
    inside = "\n".join(lines)
    return f"<details>\n<summary>{len(lines)} records</summary>\n\n{inside}\n\n</details>\n"


def _link(record: Record) -> str:
    return f"[{text(record.name)}](records/{quote(record.name)}.json)"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
