"""Matrix: a YAML file of defaults, axes, include and exclude, expanded into Cells.

Everything wrong in a file is reported at once, before anything starts.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from bench.core import files
from bench.core.settings import InputError, Problem, Settings, parse, shown, unknown
from bench.core.strict_files import read_yaml
from bench.matrix.axes import FEWER, MOST, PROTOCOL_FIELDS, SETTABLE, AxisReader, Block, Choices, RawValue, raw_values
from bench.matrix.cell import Cell, label_of
from bench.matrix.compatibility import problems as faults
from bench.matrix.hyperparameter_search import Expander, Expansion

KEYS = ("name", "defaults", "axes", "include", "exclude", "exclusive", "tuning")
UNDECIDED = "found a list to choose from, expected `tuning: {seeds: [...]}` in the file, or several values of the axis"
_OPTIONAL = {name: info for name, info in Cell.model_fields.items() if not info.is_required()}
DEFAULTS: dict[str, object] = {
    "regime": "full",
    "regularizer": "none",
    "zero": "zero2",
}  # where Cell has none


class Tuning(Settings):
    """How lists of hyper-parameters are decided."""

    seeds: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(min_length=1)

    @field_validator("seeds")
    @classmethod
    def differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("seeds that all differ")
        return seeds


@dataclass
class Matrix:
    file: str
    name: str
    reader: AxisReader = field(default_factory=AxisReader)
    axes: Block | None = None
    include: list[Block] = field(default_factory=list)
    exclude: list[dict[str, Any]] = field(default_factory=list)
    exclusive: list[dict[str, Any]] = field(default_factory=list)  # {}: every cell
    tuning_seeds: tuple[int, ...] = ()

    def expand(self) -> list[Cell]:
        """The cells in the file's order, each once; of what is chosen later, the first candidate."""
        return self.expansion().all_cells()

    def expansion(self) -> Expansion:
        """What runs first, and what waits for a choice. InputError names what does not go together."""
        problems: dict[Problem, None] = {}
        self._check_size()

        def check(choices: Choices, cell: Cell) -> None:
            for name, message in faults(cell):
                problems[Problem(choices[name].path, message)] = None
            candidate = next((choices[name].given for name in PROTOCOL_FIELDS if choices[name].given.candidate), None)
            if candidate is not None:
                for path, message in self._undecidable(candidate, choices, cell):
                    problems[Problem(path, message)] = None

        expander = Expander(self.tuning_seeds, check)
        for block in ([self.axes] if self.axes else []) + self.include:
            product = self.reader.product(block)
            for choices in self._kept(product, problems) if block is self.axes else product:
                expander.add(choices)
        problems |= self.reader.problems
        if not problems and not expander.made.runnable_now():
            problems[Problem("exclude", "leaves no cell")] = None
        if problems:
            raise InputError(self.file, problems)
        return expander.made

    def _check_size(self) -> None:
        """InputError where there is more than can be expanded, what is excluded included."""
        count = 0
        for block in [*([self.axes] if self.axes else []), *self.include]:
            tuned = any(given.candidate for name in PROTOCOL_FIELDS for given in block[name])
            count += math.prod(map(len, block.values())) * (1 + len(self.tuning_seeds) * tuned)
        if count > MOST:
            raise InputError(self.file, [Problem("axes", f"found {count:,} cells, {FEWER}")])

    def alone(self, cell: Cell) -> bool:
        """Whether the cell gets its hosts to itself, as measurements of cost do."""
        return any(all(matches(one, getattr(cell, name)) for name, one in rule.items()) for rule in self.exclusive)

    def _undecidable(self, candidate: RawValue, choices: Choices, cell: Cell) -> Iterator[tuple[str, str]]:
        """Why nothing can be chosen for a cell that has something to choose from."""
        if not self.tuning_seeds:
            yield candidate.listed, UNDECIDED
        if cell.cost_only:
            yield candidate.listed, "found a list with weights random, which have no dev score to choose by"
        if cell.seed in self.tuning_seeds:
            yield choices["seed"].path, f"found {cell.seed}, which is a tuning seed: expected others to report"
        if not cell.vary:
            yield choices["vary"].path, "found nothing that varies, so that no seed is a fresh one"

    def _kept(self, product: Iterator[Choices], problems: dict[Problem, None]) -> Iterator[Choices]:
        """Without what is excluded; a rule that matches nothing is a problem."""
        used = [False] * len(self.exclude)
        known: dict[tuple[int, str, int], bool] = {}

        def hit(i: int, rule: dict[str, Any], choices: Choices) -> bool:
            for name, pattern in rule.items():
                key = (i, name, id(choices[name]))
                if key not in known:
                    known[key] = matches(pattern, choices[name].value)
                if not known[key]:
                    return False
            return True

        for choices in product:
            hits = [i for i, rule in enumerate(self.exclude) if hit(i, rule, choices)]
            for i in hits:
                used[i] = True
            if not hits:
                yield choices
        for i, was_used in enumerate(used):
            if not was_used:
                problems[Problem(f"exclude[{i}]", f"found {shown(self.exclude[i])}, which matches no cell")] = None


def matches(pattern: object, value: object) -> bool:
    """`full` matches every full; a mapping matches what has all its values; a list, what one of them matches."""
    if isinstance(value, tuple) and not any(isinstance(one, list) for one in _several(pattern)):
        return _several(pattern) == list(value)
    if isinstance(pattern, list):
        return any(matches(one, value) for one in pattern)
    if not isinstance(value, Settings):
        return pattern == value
    if isinstance(pattern, Mapping):
        plain = value.model_dump(mode="json")
        return all(plain.get(key) == wanted for key, wanted in pattern.items())
    return pattern in (getattr(value, "kind", None), label_of(value))


def _several(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def find(matrix: str) -> Path:
    """A file, or the name of a shipped matrix. InputError lists the names."""
    with contextlib.suppress(OSError):  # a name too long for a file is none
        if Path(matrix).is_file():
            return Path(matrix)
    names = files.shipped_names("matrices", ".yaml")
    if matrix in names:
        return files.shipped("matrices") / f"{matrix}.yaml"
    if os.path.lexists(matrix):
        raise InputError(matrix, [Problem("file", "found no regular file, expected one")])
    if Path(matrix).name != matrix:
        raise InputError(matrix, [Problem("file", "found none of this name, expected one")])
    raise InputError("matrix", [Problem("MATRIX", f"{unknown(matrix, names)}, or a YAML file")])


def load(matrix: str) -> Matrix:
    """Read and check a matrix. InputError names every fault of the file."""
    file = find(matrix)
    problems: list[Problem] = []
    data = read_yaml(file, KEYS)
    problems += [Problem(str(key), "unknown key: " + unknown(key, KEYS)) for key in data if key not in KEYS]
    made = Matrix(str(file), str(data.get("name", file.stem)))
    base = {name: [RawValue(info.get_default(), name, own=False)] for name, info in _OPTIONAL.items()}
    base |= raw_values(DEFAULTS, "default", problems, own=False)
    base |= raw_values(_mapping(data.get("defaults"), "defaults", problems), "defaults", problems)
    if axes := _mapping(data.get("axes"), "axes", problems):
        made.axes = _block(made.reader, base, raw_values(axes, "axes", problems), "axes", problems)
    for i, entry in enumerate(_list(data.get("include"), "include", problems)):
        path = f"include[{i}]"
        fields = raw_values(_mapping(entry, path, problems), path, problems)
        made.include.append(_block(made.reader, base, fields, path, problems))
    if not axes and not made.include:
        problems.append(Problem("axes", "missing, expected at least one of axes and include"))
    made.exclude = _rules(data.get("exclude"), "exclude", problems)
    everything = data.get("exclusive") is True
    made.exclusive = [{}] if everything else _rules(data.get("exclusive") or None, "exclusive", problems)
    if "tuning" in data and (tuning := parse(Tuning, data["tuning"], "tuning", problems)) is not None:
        made.tuning_seeds = tuning.seeds
    problems += made.reader.problems
    if problems:
        raise InputError(str(file), problems)
    return made


def _block(reader: AxisReader, base: Block, fields: Block, path: str, problems: list[Problem]) -> Block:
    """`fields` last, so that the last of them varies fastest."""
    block = {name: several for name, several in base.items() if name not in fields} | fields
    missing = Cell.model_fields.keys() - block.keys()
    problems += [Problem(f"{path}.{name}", "missing, expected a value or a list of values") for name in sorted(missing)]
    reader.check(block)
    return block


def _rules(value: object, name: str, problems: list[Problem]) -> list[dict[str, Any]]:
    """Fields and values that cells may have."""
    rules = [_mapping(entry, f"{name}[{i}]", problems) for i, entry in enumerate(_list(value, name, problems))]
    for i, rule in enumerate(rules):
        if not rule:
            problems.append(Problem(f"{name}[{i}]", "found nothing in it, expected fields and values of cells"))
        for key in rule.keys() - set(SETTABLE):
            problems.append(Problem(f"{name}[{i}].{key}", "unknown field: " + unknown(key, SETTABLE)))
    return rules


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
