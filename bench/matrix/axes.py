"""Values of a cell's fields as a matrix gives them: read once each, and filled up by the protocol a cell follows."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.core.settings import Problem, Settings, shown, unknown
from bench.matrix.cell import Cell, compose_name, identity_json, slug
from bench.matrix.field_parsers import parser
from bench.matrix.protocols import PROTOCOLS, facts, place

PROTOCOL_FIELDS = ("method", "regularizer")  # read once a protocol has filled in what a matrix leaves open
LENGTH = ("steps", "epochs")  # of which a cell has one
SETS = ("vary",)  # a value of these is a list
OPTIONAL = {name for name, info in Cell.model_fields.items() if not info.is_required() and info.default is None}
SETTABLE = tuple(name for name in Cell.model_fields if name != "tuning")


@dataclass(frozen=True, eq=False)
class RawValue:
    """What a matrix has for one field, before it is read."""

    raw: Any
    path: str
    own: bool = True  # False: a default, which a protocol may replace
    candidate: str = ""  # of hyper-parameters to choose from: which values these are
    lists: str = ""  # all of what they are chosen from, with what stays the same: JSON
    listed: str = ""  # the place of the first of the lists


@dataclass(frozen=True, eq=False)
class ParsedValue:
    """One value of one field, and where the file has it."""

    value: Any
    given: RawValue

    @property
    def path(self) -> str:
        return self.given.path

    @functools.cached_property
    def json(self) -> str:
        return identity_json(self.value)

    @functools.cached_property
    def slug(self) -> str:
        return slug(self.value)


MOST = 1_000_000  # cells of a matrix
FEWER = f"expected {MOST:,} at most"
NO_EPOCHS = RawValue(None, "epochs")
Block = dict[str, list[RawValue]]  # a product: the axes, or one entry of include
Choices = dict[str, ParsedValue]


class AxisReader:
    """Reads each value once, and keeps what is wrong."""

    def __init__(self) -> None:
        self.problems: dict[Problem, None] = {}
        self._read: dict[tuple[str, int, str], ParsedValue] = {}
        self._kept: list[RawValue] = []  # so that no id is taken again
        self._filled_in: dict[str, RawValue] = {}  # by protocol and field

    def read(self, name: str, given: RawValue, raw: Any = None) -> ParsedValue:
        """`raw`: in place of what is given."""
        key = (name, id(given), "" if raw is None else json.dumps(raw, sort_keys=True, default=str))
        if key not in self._read:
            found: list[Problem] = []
            plain = given.raw if raw is None else raw
            value = plain if isinstance(plain, Settings) else parser(name)(plain, given.path, found)
            self.problems.update(dict.fromkeys(found))
            self._read[key] = ParsedValue(value, given)
            self._kept.append(given)
        return self._read[key]

    def check(self, block: Block) -> None:
        """Reads all of `block` that no protocol fills up."""
        later = PROTOCOL_FIELDS if any(given.raw is not None for given in block["protocol"]) else ()
        for name, several in block.items():
            if name not in later:
                for given in several:
                    self.read(name, given)

    def product(self, block: Block) -> Iterator[Choices]:
        """Every combination, as its protocol has it; not those of which something cannot be read."""
        for several in itertools.product(*block.values()):
            choices = self._choices(dict(zip(block, several, strict=True)))
            if choices is not None:
                yield choices

    def _choices(self, given: dict[str, RawValue]) -> Choices | None:
        protocol = self.read("protocol", given["protocol"]).value
        if given["epochs"].raw is not None and given["steps"].own:
            general = [given[name].path.startswith("defaults.") for name in LENGTH]
            if general[0] == general[1]:
                message = f"found {shown(given['epochs'].raw)} and {given['steps'].path}, expected one of them"
                self.problems[Problem(given["epochs"].path, message)] = None
                return None
            if general[1]:  # the steps of an axis or an entry stand above the epochs of the defaults
                given = {**given, "epochs": NO_EPOCHS}
        given, raws = (given, {}) if protocol is None else self._filled(protocol, given)
        made = {name: self.read(name, one, raws.get(name)) for name, one in given.items()}
        unread = (name for name, choice in made.items() if choice.value is None)
        bad = any(name not in OPTIONAL or given[name].raw is not None for name in unread)
        return None if bad else made

    def _filled(self, protocol: str, given: dict[str, RawValue]) -> tuple[dict[str, RawValue], dict[str, Any]]:
        """What is given, with the protocol's values for whole fields left open; what it makes of parts left open."""
        backbone, task = (self.read(name, given[name]).value for name in ("backbone", "task"))
        if backbone is None or task is None:
            return given, {}
        known = facts(backbone, task, given["method"].raw, given["regularizer"].raw)
        whole: dict[str, RawValue] = dict(given)
        parts: dict[str, Any] = {}
        own_length = given["steps"].own or given["epochs"].own
        for path, value in PROTOCOLS[protocol].values(known).items():
            field, keys = place(path)
            if keys:
                raw = parts.get(field, given[field].raw)
                parts[field] = _with(raw if isinstance(raw, Mapping) else {"kind": raw}, keys, value)
            elif not given[field].own and not (own_length and field in LENGTH):
                key = f"{protocol} {field} {value}"
                whole[field] = self._filled_in.setdefault(key, RawValue(value, f"{field} of protocol {protocol}"))
        return whole, parts


def _with(raw: Any, keys: tuple[str, ...], value: Any) -> Any:
    """`raw` with `value` at `keys`, unless it has something there."""
    if not isinstance(raw, Mapping):
        return raw
    first, *rest = keys
    if rest:
        return {**raw, first: _with(raw.get(first, {}), tuple(rest), value)}
    return raw if first in raw else {**raw, first: value}


def make(choices: Choices, **changed: Any) -> Cell:
    """The cell of a combination, with some fields changed."""
    values = {name: choice.value for name, choice in choices.items()} | changed
    cell = Cell.model_construct(**values)
    slugs = {name: choice.slug for name, choice in choices.items()} | {k: slug(v) for k, v in changed.items()}
    jsons = {name: choice.json for name, choice in choices.items()} | {k: identity_json(v) for k, v in changed.items()}
    vars(cell)["name"] = compose_name(slugs, jsons)  # the cached property, from parts that many cells share
    return cell


def raw_values(fields: Mapping[str, object], path: str, problems: list[Problem], own: bool = True) -> Block:
    """Per field what it may be: a list gives several values, anything else one."""
    made: Block = {}
    for name, raw in fields.items():
        here = f"{path}.{name}"
        if name not in SETTABLE:
            problems.append(Problem(here, "unknown field: " + unknown(name, SETTABLE)))
            continue
        several = _several(name, raw)
        if several == []:
            problems.append(Problem(here, "found an empty list, expected at least one value"))
        for i, one in enumerate([raw] if several is None else several):
            its_place = here if several is None else f"{here}[{i}]"
            made.setdefault(name, []).extend(_candidates(name, one, its_place, problems, own))
    return made


def _several(name: str, raw: object) -> list[Any] | None:
    """The values of a list; None where it is one value itself."""
    if not isinstance(raw, list) or (name in SETS and all(isinstance(one, str) for one in raw)):
        return None
    return raw


def _candidates(name: str, raw: object, path: str, problems: list[Problem], own: bool) -> list[RawValue]:
    """A method whose recipe lists values, or a regularizer that does: one for each combination of them."""
    if name not in PROTOCOL_FIELDS or not isinstance(raw, Mapping):
        return [RawValue(raw, path, own)]
    mapping: dict[str, Any] = dict(raw)
    holder, here = mapping, path
    if name == "method":
        recipe = mapping.get("recipe")
        holder, here = dict(recipe) if isinstance(recipe, Mapping) else {}, f"{path}.recipe"
    lists = {key: value for key, value in holder.items() if isinstance(value, list) and key != "betas"}
    for key, values in lists.items():
        if not values:
            problems.append(Problem(f"{here}.{key}", "found an empty list, expected at least one value"))
    if not lists:
        return [RawValue(raw, path, own)]
    if (count := math.prod(map(len, lists.values()))) > MOST:
        problems.append(Problem(here, f"found {count:,} combinations to choose from, {FEWER}"))
        return [RawValue(raw, path, own)]
    made: list[RawValue] = []
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        label = " ".join(f"{key}={_number(value)}" for key, value in chosen.items())
        full = {**holder, **chosen}
        one = {**mapping, "recipe": full} if name == "method" else full
        whole = json.dumps(mapping, sort_keys=True, default=str)
        made.append(RawValue(one, path, own, label, whole, f"{here}.{next(iter(lists))}"))
    return made


def _number(value: object) -> str:
    """The same for 1e-3, which YAML takes for a text, and 0.001."""
    try:
        return f"{float(str(value)):g}"
    except ValueError:
        return str(value)
