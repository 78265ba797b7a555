"""Matrix: a YAML file of defaults, axes, include and exclude, expanded into Cells.

Everything wrong in a file is reported at once, before anything starts.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import files
from bench.cells import Cell, compose_name, identity_json, slug
from bench.fields import parser
from bench.settings import InputError, Problem, Settings, read_yaml, shown, unknown

KEYS = ("name", "defaults", "axes", "include", "exclude")
_OPTIONAL = {name: info for name, info in Cell.model_fields.items() if not info.is_required()}
DEFAULTS: dict[str, object] = {
    "regime": "full",
    "regularizer": "none",
    "zero": "zero2",
}  # where Cell has none


@dataclass(frozen=True, eq=False)
class Choice:
    """One value of one field, and where the file has it."""

    value: Any
    path: str

    @functools.cached_property
    def json(self) -> str:
        return identity_json(self.value)

    @functools.cached_property
    def slug(self) -> str:
        return slug(self.value)


Block = dict[str, list[Choice]]  # a product of choices: the axes, or one entry of include


@dataclass
class Matrix:
    file: str
    name: str
    axes: Block | None = None
    include: list[Block] = field(default_factory=list)
    exclude: list[dict[str, Any]] = field(default_factory=list)

    def expand(self) -> list[Cell]:
        """The cells in the file's order, each once. InputError names what does not go together."""
        cells: dict[str, Cell] = {}
        problems: dict[Problem, None] = {}
        for block in ([self.axes] if self.axes else []) + self.include:
            for choices in self._kept(block, problems) if block is self.axes else _product(block):
                cell = _cell(choices)
                for name, message in cell.problems():
                    problems[Problem(choices[name].path, message)] = None
                cells.setdefault(cell.name, cell)
        if problems:
            raise InputError(self.file, problems)
        return list(cells.values())

    def _kept(self, block: Block, problems: dict[Problem, None]) -> Iterator[dict[str, Choice]]:
        """The product without what is excluded; a rule that matches nothing is a problem."""
        rules = [
            [(name, {c for c in block[name] if matches(pattern, c.value)}) for name, pattern in rule.items()]
            for rule in self.exclude
        ]
        used = [False] * len(rules)
        for choices in _product(block):
            hits = [i for i, rule in enumerate(rules) if all(choices[name] in allowed for name, allowed in rule)]
            for i in hits:
                used[i] = True
            if not hits:
                yield choices
        for i, hit in enumerate(used):
            if not hit:
                problems[Problem(f"exclude[{i}]", f"found {shown(self.exclude[i])}, which matches no cell")] = None


def _product(block: Block) -> Iterator[dict[str, Choice]]:
    names = list(block)
    for choices in itertools.product(*block.values()):
        yield dict(zip(names, choices, strict=True))


def _cell(choices: dict[str, Choice]) -> Cell:
    cell = Cell.model_construct(**{name: choice.value for name, choice in choices.items()})
    slugs = {name: choice.slug for name, choice in choices.items()}
    # the cached property, from parts that many cells share
    vars(cell)["name"] = compose_name(slugs, {name: choice.json for name, choice in choices.items()})
    return cell


def matches(pattern: object, value: object) -> bool:
    """`full` matches every full; a mapping matches what has all its values; a list, what one of them matches."""
    if isinstance(pattern, list):
        return any(matches(one, value) for one in pattern)
    if not isinstance(value, Settings):
        return pattern == value
    if isinstance(pattern, Mapping):
        plain = value.model_dump(mode="json")
        return all(plain.get(key) == wanted for key, wanted in pattern.items())
    return pattern in (getattr(value, "kind", None), getattr(value, "label", None))


def find(matrix: str) -> Path:
    """A file, or the name of a shipped matrix. InputError lists the names."""
    with contextlib.suppress(OSError):  # a name too long for a file is none
        if Path(matrix).is_file():
            return Path(matrix)
    names = files.shipped_names("matrices", ".yaml")
    if matrix in names:
        return files.shipped("matrices") / f"{matrix}.yaml"
    raise InputError("matrix", [Problem("MATRIX", f"{unknown(matrix, names)}, or a YAML file")])


def load(matrix: str) -> Matrix:
    """Read and check a matrix. InputError names every fault of the file."""
    file = find(matrix)
    problems: list[Problem] = []
    data = read_yaml(file, KEYS)
    problems += [Problem(str(key), "unknown key: " + unknown(key, KEYS)) for key in data if key not in KEYS]
    made = Matrix(str(file), str(data.get("name", file.stem)))
    base = {name: [Choice(info.get_default(), name)] for name, info in _OPTIONAL.items()}
    base |= _choices(DEFAULTS, "default", problems)
    base |= _choices(_mapping(data.get("defaults"), "defaults", problems), "defaults", problems)
    if axes := _mapping(data.get("axes"), "axes", problems):
        made.axes = _block(base, _choices(axes, "axes", problems), "axes", problems)
    for i, entry in enumerate(_list(data.get("include"), "include", problems)):
        path = f"include[{i}]"
        fields = _choices(_mapping(entry, path, problems), path, problems)
        made.include.append(_block(base, fields, path, problems))
    if not axes and not made.include:
        problems.append(Problem("axes", "missing, expected at least one of axes and include"))
    for i, entry in enumerate(_list(data.get("exclude"), "exclude", problems)):
        made.exclude.append(rule := _mapping(entry, f"exclude[{i}]", problems))
        if not rule:
            problems.append(Problem(f"exclude[{i}]", "found nothing in it, expected fields and values to leave out"))
        for key in rule.keys() - Cell.model_fields.keys():
            problems.append(Problem(f"exclude[{i}].{key}", "unknown field: " + unknown(key, Cell.model_fields)))
    if problems:
        raise InputError(str(file), problems)
    return made


def _block(base: Block, fields: Block, path: str, problems: list[Problem]) -> Block:
    """`fields` last, so that the last of them varies fastest."""
    block = {name: choices for name, choices in base.items() if name not in fields} | fields
    for name in Cell.model_fields.keys() - block.keys():
        problems.append(Problem(f"{path}.{name}", "missing, expected a value or a list of values"))
    return block


def _choices(fields: Mapping[str, object], path: str, problems: list[Problem]) -> Block:
    """Per field its choices: a list gives several, anything else one."""
    made: Block = {}
    for name, given in fields.items():
        place = f"{path}.{name}"
        if name not in Cell.model_fields:
            problems.append(Problem(place, "unknown field: " + unknown(name, Cell.model_fields)))
            continue
        several = given if isinstance(given, list) else [given]
        if not several:
            problems.append(Problem(place, "found an empty list, expected at least one value"))
        for i, raw in enumerate(several):
            here = f"{place}[{i}]" if isinstance(given, list) else place
            for one in _spread(raw, here, problems) if name == "method" else [raw]:
                made.setdefault(name, []).append(Choice(parser(name)(one, here, problems), here))
    return made


def _spread(raw: object, path: str, problems: list[Problem]) -> list[object]:
    """A method whose recipe lists several values, as one method for each combination of them."""
    if not isinstance(raw, Mapping) or not isinstance(recipe := raw.get("recipe"), Mapping):
        return [raw]
    lists = {k: v for k, v in recipe.items() if isinstance(v, list) and k != "betas"}
    for key, values in lists.items():
        if not values:
            problems.append(Problem(f"{path}.recipe.{key}", "found an empty list, expected at least one value"))
    return [
        {**raw, "recipe": {**recipe, **dict(zip(lists, values, strict=True))}}
        for values in itertools.product(*lists.values())
    ]


def _mapping(value: object, path: str, problems: list[Problem]) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return {str(key): item for key, item in value.items()}
    problems.append(Problem(path, f"found {shown(value)}, expected a mapping"))
    return {}


def _list(value: object, path: str, problems: list[Problem]) -> list[Any]:
    if value is None or isinstance(value, list):
        return value or []
    problems.append(Problem(path, f"found {shown(value)}, expected a list"))
    return []
