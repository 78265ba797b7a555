"""Matrix: a YAML file of defaults, axes, include and exclude, expanded into Cells.

Everything wrong in a file is reported at once, before anything starts.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from bench import backbones, files, tasks
from bench.cells import Cell, Zero, compose_name, identity_json, slug
from bench.heads import HEADS
from bench.methods import METHODS
from bench.perturb import REGULARIZERS
from bench.settings import InputError, Problem, Settings, parse_kind, shown, unknown

Parser = Callable[[object, str, list[Problem]], Any]

# what reading a file may raise besides what its parser promises: constructors of YAML tags raise all of these
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
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
    try:
        data = yaml.load(file.read_text("utf-8"), _Loader)
    except (yaml.YAMLError, *UNREADABLE) as error:
        raise InputError(str(file), [Problem("YAML", " ".join(str(error).split()))]) from error
    if not isinstance(data, dict):
        raise InputError(str(file), [Problem("YAML", f"found {shown(data)}, expected a mapping with {KEYS}")])
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


def parser(name: str) -> Parser:
    """The function that reads a value of the cell's field `name`."""
    special: dict[str, Parser] = {
        "backbone": backbones.parse,
        "task": tasks.parse_task,
        "regime": tasks.parse_regime,
        "method": _parse_method,
        "regularizer": lambda value, path, problems: parse_kind(REGULARIZERS, value, path, problems),
        "head": lambda value, path, problems: parse_kind(HEADS, value, path, problems),
        "zero": parse_zero,
    }
    return special.get(name) or _parse_scalar(name)


def _parse_method(value: object, path: str, problems: list[Problem]) -> Any:
    """A method; a recipe given in part keeps the rest of the method's own."""
    if isinstance(value, Mapping) and isinstance(recipe := value.get("recipe"), Mapping):
        kind = METHODS.get(str(value.get("kind")))
        if kind is not None:
            own = kind.model_fields["recipe"].get_default().model_dump()
            value = {**value, "recipe": {**own, **recipe}}
    return parse_kind(METHODS, value, path, problems)


def _parse_scalar(name: str) -> Parser:
    info = Cell.model_fields[name]
    adapter = TypeAdapter(info.rebuild_annotation())

    def parse(value: object, path: str, problems: list[Problem]) -> Any:
        try:
            return adapter.validate_python(value, strict=True)
        except ValidationError as error:
            expected = error.errors()[0]["msg"]
            problems.append(Problem(path, f"found {shown(value)}, expected: {expected[0].lower()}{expected[1:]}"))
            return None

    return parse


def parse_zero(value: object, path: str, problems: list[Problem]) -> Zero | None:
    """The name of a shipped ds_config, or `{path: file.json}`."""
    names = files.shipped_names("ds_configs", ".json")
    if isinstance(value, str) and value in names:
        file = files.shipped("ds_configs") / f"{value}.json"
    elif isinstance(value, Mapping) and set(value) == {"path"}:
        file = Path(os.path.expanduser(os.path.expandvars(str(value["path"]))))
    else:
        problems.append(Problem(path, f"{unknown(value, names)}, or {{path: a DeepSpeed configuration}}"))
        return None
    try:
        config = json.loads(file.read_text("utf-8"))
        stage = config.get("zero_optimization", {}).get("stage", 0)
        if not all(isinstance(config.get(precision, {}), dict) for precision in ("bf16", "fp16")):
            raise ValueError("bf16 and fp16: expected mappings")
        if found := _first_auto(config):
            raise ValueError(f"{found}: found 'auto', which only Hugging Face's Trainer fills in: expected a value")
    except (*UNREADABLE,) as error:
        problems.append(Problem(path, f"{file}: expected a DeepSpeed configuration in JSON: {error}"))
        return None
    if type(stage) is not int or stage not in (0, 1, 2, 3):
        problems.append(Problem(path, f"{file}: zero_optimization.stage: found {stage!r}, expected 0, 1, 2 or 3"))
        return None
    return Zero(name=file.stem, config=config)


def _first_auto(config: Any, path: str = "") -> str | None:
    """The place of the first 'auto' in a configuration."""
    if not isinstance(config, dict):
        return path if config == "auto" else None
    places = (_first_auto(item, f"{path}.{key}".strip(".")) for key, item in config.items())
    return next((place for place in places if place is not None), None)


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


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error, not the last one's victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
