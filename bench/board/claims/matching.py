"""Which records a claim compares: units, each of two sides that share everything else, over the same seeds.

Costs are compared within a setting. For quality, settings that differ in what changes costs alone, or scores by
rounding, are one unit, or the same scores would count several times; a record counts there only if its own setting has
the other side, too.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bench.board.analysis.grouping import COMPARED, Group, groups, key_of, role
from bench.board.claims.claim import Claim, Part, fields_of
from bench.board.claims.quantities import QUANTITIES, Place, Quantity
from bench.board.sections import titles
from bench.records.record import Record

# what changes costs alone; a test compares it with what tuning leaves out
NEUTRAL = ("zero", "ranks", "micro_batch_size", "attention", "compile", "feature_cache", "checkpointing", "kernels")

ROUNDING = ("precision", "landscape")  # changes scores by rounding, or not at all


@dataclass(frozen=True)
class Line:
    """One method with one regularizer."""

    name: str  # without what is set differently from task to task
    values: dict[int, float]  # by seed, of those that finished and know it; the mean of several settings
    records: tuple[Record, ...]  # those of the values

    def only(self, seeds: Iterable[int]) -> list[float]:
        return [self.values[seed] for seed in seeds]


@dataclass(frozen=True)
class Unit:
    """Both sides of a claim in one setting."""

    title: str
    details: str  # what else it is called by where several have that title
    first: tuple[Line, ...]
    second: tuple[Line, ...]
    seeds: tuple[int, ...]  # that every line has
    failed: tuple[tuple[Record, ...], tuple[Record, ...]]  # of each side
    task: str
    backbone: str

    @property
    def records(self) -> list[Record]:
        """Those whose values count, of both sides."""
        return [r for line in (*self.first, *self.second) for r in line.records if r.cell.get("seed", 0) in self.seeds]


Alike = dict[str, list[Record]]  # records that every selector takes or leaves together, by what makes them so
Side = dict[str, list[Record]]  # by method and regularizer
Sides = tuple[Side, Side]


@dataclass(frozen=True)
class Material:
    """All records that are reported, as claims need them; made once."""

    of_costs: list[tuple[Group, Alike]]
    of_quality: list[tuple[Group, Alike]]
    examples: dict[str, Record]  # one of each that are alike
    setting: dict[str, int]  # of each record, by its name

    @classmethod
    def of(cls, records: Iterable[Record]) -> Material:
        found = list(records)
        settings = groups(found, COMPARED, titles.title)
        quality = groups(found, (*COMPARED, *NEUTRAL, *ROUNDING), titles.subject)
        of_costs, of_quality = ([(group, _alike(group.records)) for group in some] for some in (settings, quality))
        examples = {key: records[0] for _, alike in of_costs for key, records in alike.items()}
        numbers = {record.name: i for i, group in enumerate(settings) for record in group.records}
        return cls(of_costs, of_quality, examples, numbers)


def _alike(records: Iterable[Record]) -> Alike:
    found: Alike = {}
    for record in records:
        cell = record.cell
        fields = [cell.get(name) for name in ("method", "regularizer", "regime", "feature_cache")]
        found.setdefault(key_of([*fields, role(cell)]), []).append(record)
    return found


def units(claim: Claim, part: Part, material: Material) -> list[Unit]:
    """Every setting that has both sides, with however few seeds."""
    quantity = QUANTITIES[claim.quantity]
    known = {
        key: (side, _base(claim, example), _content(example))
        for key, example in material.examples.items()
        if (side := _side(claim, part, example)) is not None
    }
    found: list[Unit] = []
    for group, alike in material.of_costs if quantity.costs else material.of_quality:
        by_base: dict[str, Sides] = {}
        for key, records in alike.items():
            if key in known:
                side, base, content = known[key]
                by_base.setdefault(base, ({}, {}))[side].setdefault(content, []).extend(records)
        for both in by_base.values():
            found += _of(claim, quantity, group, _within_settings(both, material))
    return _named_apart(found)


def _side(claim: Claim, part: Part, record: Record) -> int | None:
    """0 for the first side, 1 for the second."""
    cell = record.cell
    if not claim.where.holds(cell):
        return None
    if claim.first.holds(cell) and part.first.holds(cell):
        return 0
    return 1 if claim.second.holds(cell) and part.second.holds(cell) else None


def _base(claim: Claim, record: Record) -> str:
    """What both sides share besides the setting. A recipe that dev has chosen is each side's own."""
    if claim.differs == "method":
        return key_of(record.cell.get("regularizer"))
    method = record.cell.get("method")
    if isinstance(method, dict) and role(record.cell) == "report":
        method = {field: value for field, value in method.items() if field != "recipe"}
    return key_of(method)


def _named_apart(found: list[Unit]) -> list[Unit]:
    """By title, to which those that share it have their details added."""
    several = Counter(unit.title for unit in found)
    named = [
        replace(unit, title=f"{unit.title} ({unit.details})") if several[unit.title] > 1 else unit for unit in found
    ]
    return sorted(named, key=lambda unit: unit.title)


def _content(record: Record) -> str:
    return key_of([record.cell.get("method"), record.cell.get("regularizer")])


def _within_settings(sides: Sides, material: Material) -> Sides:
    """Without those whose own setting lacks the other side."""
    numbers = ({material.setting[record.name] for record in _all(side)} for side in sides)
    both = set[int].intersection(*numbers)

    def kept(side: Side) -> Side:
        return {key: [r for r in records if material.setting[r.name] in both] for key, records in side.items()}

    return kept(sides[0]), kept(sides[1])


def _all(side: Side) -> list[Record]:
    return [record for records in side.values() for record in records]


def _of(claim: Claim, quantity: Quantity, group: Group, sides: Sides) -> list[Unit]:
    """A unit for each place that both sides have finished cells in, or one without values; failures are with each."""
    if not all(map(_all, sides)):
        return []
    labels = _all(sides[0])[0].labels
    title = group.title if claim.differs == "method" else f"{group.title} · {labels.method}"
    failed, other = (tuple(record for record in _all(side) if record.status != "ok") for side in sides)
    first, second = (_lines(side, quantity) for side in sides)
    made: list[Unit] = []
    for place in sorted(first.keys() & second.keys(), key=str) or [()]:
        one, two = (_longest(lines.get(place, [])) for lines in (first, second))
        seeds = [set(line.values) for line in (*one, *two)] if one and two else [set[int]()]
        shared = tuple(sorted(set[int].intersection(*seeds)))
        details = f"{group.details}, {', '.join(map(str, place))}" if place else group.details
        made.append(Unit(title, details, one, two, shared, (failed, other), labels.task, labels.backbone))
    return made


def _longest(lines: list[Line]) -> tuple[Line, ...]:
    """Those with the most seeds: what one line lacks takes nothing from the others."""
    most = max((len(line.values) for line in lines), default=0)
    return tuple(line for line in lines if len(line.values) == most)


def _lines(side: Side, quantity: Quantity) -> dict[Place, list[Line]]:
    """By place, those of the cells that finished and know the quantity."""
    found: dict[Place, list[Line]] = {}
    for _, records in sorted(side.items()):
        by_place: dict[Place, list[Record]] = {}
        for record in records:
            place = quantity.place(record)
            if record.status == "ok" and place is not None and quantity.value(record) is not None:
                by_place.setdefault(place, []).append(record)
        for place, several in by_place.items():
            lines = found.setdefault(place, [])
            name = _name(several[0])
            same = sum(line.name.partition("#")[0] == name for line in lines)
            lines.append(_line(f"{name}#{same}" if same else name, several, quantity))
    return found


def _name(record: Record) -> str:
    method, regularizer = (fields_of(record.cell.get(field)) for field in ("method", "regularizer"))
    named = (method.get("kind"), method.get("generator"), regularizer.get("kind"), regularizer.get("space"))
    return " ".join(str(part) for part in named if part is not None)


def _line(name: str, records: list[Record], quantity: Quantity) -> Line:
    by_seed: dict[int, list[float]] = {}
    for record in records:
        value = quantity.value(record)
        if value is not None:
            by_seed.setdefault(record.cell.get("seed", 0), []).append(value)
    return Line(name, {seed: statistics.fmean(values) for seed, values in by_seed.items()}, tuple(records))
