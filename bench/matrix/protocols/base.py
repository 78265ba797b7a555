"""What a protocol is: a paper's settings as values of a cell's fields, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.core.settings import Settings, shown
from bench.data.tasks.regimes import NAMED, Regime

Facts = Mapping[str, str]  # backbone, form, task, method, regularizer, space -> a cell's


OUTSIDE = "it has no settings for this method, backbone and task"


class Rule(Settings):
    """Values for the cells that have all facts in `when`; a later rule overrides an earlier one."""

    values: dict[str, Any]  # steps, regime, recipe.learning_rate, method.length, regularizer.steps
    source: str  # of every value: file and line, table or section
    when: dict[str, tuple[str, ...]] = {}  # a fact -> those it may be
    core: bool = False  # what the protocol is about: a cell that no such rule is for departs from it

    def applies(self, facts: Facts) -> bool:
        return all(facts[fact] in allowed for fact, allowed in self.when.items())


class Protocol(Settings):
    name: str
    title: str
    source: str
    rules: tuple[Rule, ...]
    seeds: tuple[int, ...] = ()  # the paper's own, for who wants to list them in a matrix
    # what is done otherwise here, whatever the cell says
    differs: tuple[str, ...] = ()

    def values(self, facts: Facts) -> dict[str, Any]:
        return {path: value for rule in self.rules if rule.applies(facts) for path, value in rule.values.items()}

    def departures(self, facts: Facts, content: Mapping[str, Any]) -> tuple[str, ...]:
        """Where a cell with this content has other values, as `steps 20, not 1000`, or is none of the protocol's."""
        values = {path: NAMED.get(str(value), value) for path, value in self.values(facts).items()}
        plain = {path: value.model_dump() if isinstance(value, Regime) else value for path, value in values.items()}
        found = [(path, value, at(content, path)) for path, value in plain.items()]
        outside = () if any(rule.core and rule.applies(facts) for rule in self.rules) else (OUTSIDE,)
        other = (f"{path} {short(own)}, not {short(value)}" for path, value, own in found if not same(value, own))
        return (*outside, *other)


def place(path: str) -> tuple[str, tuple[str, ...]]:
    """The field of a cell that a path of a rule is in, and the keys inside it."""
    first, *rest = path.split(".")
    return ("method", ("recipe", *rest)) if first == "recipe" else (first, tuple(rest))


def at(content: Mapping[str, Any], path: str) -> Any:
    """What a cell's content has there; None where it has nothing."""
    field, keys = place(path)
    value: Any = content.get(field)
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def same(value: Any, own: Any) -> bool:
    """Whether `own` is what a rule says; of a mapping, in the keys that the rule has."""
    if isinstance(value, Mapping) and isinstance(own, Mapping):
        return all(same(one, own.get(key)) for key, one in value.items())
    if isinstance(value, list | tuple) and isinstance(own, list | tuple):
        return len(value) == len(own) and all(map(same, value, own))
    return value == own


def short(value: Any) -> str:
    """As it is told to a person."""
    if isinstance(value, Mapping):
        known = {key: one for key, one in value.items() if one not in (None, False)}
        return " ".join(short(one) if key == "kind" else f"{key} {short(one)}" for key, one in known.items()) or "full"
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, str) else shown(value)
