"""What a protocol is: a paper's settings as values of a cell's fields, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.settings import Settings, shown

Facts = Mapping[str, str]  # backbone, form, task, method, regularizer -> a cell's


class Rule(Settings):
    """Values for the cells that have all facts in `when`; a later rule overrides an earlier one."""

    values: dict[str, Any]  # steps, regime, recipe.learning_rate, method.length, regularizer.steps
    source: str  # of every value: file and line, table or section
    when: dict[str, tuple[str, ...]] = {}  # a fact -> those it may be

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
        """Where a cell with this content has other values: `steps 20, not 1000`."""
        found = [(path, value, at(content, path)) for path, value in self.values(facts).items()]
        return tuple(f"{path} {_short(own)}, not {_short(value)}" for path, value, own in found if not same(value, own))


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


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        known = {key: one for key, one in value.items() if one not in (None, False)}
        return " ".join(f"{key} {_short(one)}" for key, one in known.items()) or "full"
    return f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, str) else shown(value)
