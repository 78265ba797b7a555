"""How each field of a cell is read from a matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.core import files
from bench.core.settings import Problem, parse, parse_kind, shown, unknown
from bench.core.strict_files import UNREADABLE, read_json
from bench.data import tasks
from bench.matrix import zero_config
from bench.matrix.cell import Cell
from bench.matrix.landscape_settings import Landscape
from bench.matrix.protocols import PROTOCOLS
from bench.matrix.zero_config import Zero
from bench.methods import METHODS
from bench.models import backbones
from bench.models.heads import HEADS
from bench.regularizers import SPACES, kinds_in

Parser = Callable[[object, str, list[Problem]], Any]


def parser(name: str) -> Parser:
    """The function that reads a value of the cell's field `name`."""
    special: dict[str, Parser] = {
        "backbone": backbones.parse,
        "task": tasks.parse_task,
        "regime": tasks.parse_regime,
        "method": _parse_method,
        "regularizer": _parse_regularizer,
        "head": lambda value, path, problems: parse_kind(HEADS, value, path, problems),
        "zero": parse_zero,
        "landscape": _parse_landscape,
        "protocol": _parse_protocol,
    }
    return special.get(name) or _parse_scalar(name)


def _parse_method(value: object, path: str, problems: list[Problem]) -> Any:
    """A method; a recipe given in part keeps the rest of the method's own."""
    if isinstance(value, Mapping) and isinstance(recipe := value.get("recipe"), Mapping):
        kind = METHODS.get(str(value.get("kind")))
        if kind is not None:
            own = kind.own_recipe().model_dump()
            value = {**value, "recipe": {**own, **recipe}}
    return parse_kind(METHODS, value, path, problems)


def _parse_regularizer(value: object, path: str, problems: list[Problem]) -> Any:
    """A regularizer by its kind and space; in the embeddings, where no space is named."""
    space = value.get("space", SPACES[0]) if isinstance(value, Mapping) else SPACES[0]
    if space not in SPACES:
        problems.append(Problem(f"{path}.space", unknown(space, SPACES)))
        return None
    return parse_kind(kinds_in(space), value, path, problems)


def _parse_landscape(value: object, path: str, problems: list[Problem]) -> Landscape | None:
    """A mapping, which may be empty; null: no landscape."""
    return None if value is None else parse(Landscape, value, path, problems)


def _parse_protocol(value: object, path: str, problems: list[Problem]) -> str | None:
    """The name of one; null: none."""
    if value is None or (isinstance(value, str) and value in PROTOCOLS):
        return value
    problems.append(Problem(path, unknown(value, PROTOCOLS)))
    return None


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
        file = Path(str(value["path"]))
    else:
        problems.append(Problem(path, f"{unknown(value, names)}, or {{path: a DeepSpeed configuration}}"))
        return None
    try:
        file = files.expand_path(str(file))
        config = read_json(file)
        fault = zero_config.fault(config)
    except UNREADABLE as error:
        config, fault = {}, f"expected a DeepSpeed configuration in JSON: {error}"
    if fault is not None:
        problems.append(Problem(path, f"{file}: {fault}"))
        return None
    return Zero(name=file.stem, config=config)
