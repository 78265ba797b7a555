"""Published numbers: what papers and their code report, as results/published/*.yaml has it.

A file is a source. Its tables look as they are printed: a line per method, a column per task, `90.4±0.2`. Beside them
stands what each method and task is called here, and in what the source's protocol differs from that of our cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from bench.core import files
from bench.core.settings import InputError, Problem, Settings, parse, shown, unknown
from bench.core.strict_files import read_yaml

PRINTED = re.compile(r"(?P<value>\d+(\.\d+)?)(?P<factor>[KM]?)(±(?P<deviation>\d+(\.\d+)?))?", re.ASCII)
FACTORS = {"": 1, "K": 1_000, "M": 1_000_000}
Text = Annotated[str, Field(min_length=1)]


def _regime(value: Any) -> Any:
    match value:
        case None | "full" | "fewglue":
            return value
        case {"total": int()} | {"per_class": int()} if len(value) == 1:
            return value
        case _:
            raise ValueError("full, fewglue, {total: n}, {per_class: n} or null for whichever")


class Difference(Settings):
    """Why cells of ours have another protocol: than all of the tables it is given for, or some rows and columns."""

    why: Text
    rows: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None

    def holds(self, row: str, column: str | None) -> bool:
        return (self.rows is None or row in self.rows) and (self.columns is None or column in self.columns)


class Setting(Settings):
    """Which cells of ours a table may be compared with. Their task and method come from the column and the row."""

    backbone: Text
    regime: Annotated[Any, AfterValidator(_regime)]
    same_protocol: bool


class Described(Settings):
    """What is said of a number. Backbone and regime are in the source's words; null is what it does not tell."""

    locator: Text  # table, page, slide, abstract, or file and line
    evidence: Literal["read", "second_hand"]  # second_hand: as another paper quotes it
    quantity: Text
    unit: Literal["percent", "fraction", "parameters", "seconds", "layer", "epoch"]
    metric: Text | None
    split: Literal["dev", "test"] | None
    seeds: Annotated[int, Field(ge=1)] | None
    backbone: Text | None
    regime: Text | None
    note: Text | None = None


class Table(Described):
    columns: tuple[str | None, ...]  # tasks; null: the number is of none
    average: str | None = None  # the column that has the mean over the others
    rows: dict[str, tuple[Any, ...]]  # method -> a number for each column; null: there is none
    compare: Setting | None  # null: with no cell of ours
    differs: tuple[Difference, ...] = ()


class Source(Settings):
    key: Text
    title: Text
    where: Text  # arXiv id, repository at a commit
    tasks: dict[str, str | None]  # the source's name -> ours; null: we do not have it
    methods: dict[str, dict[str, Any] | None]  # the source's name -> settings of ours; null: we do not have it
    differs: tuple[Difference, ...] = ()  # in all tables
    tables: tuple[Table, ...]


class Comparison(Settings):
    """Cells of ours, and whether the number was made as theirs are."""

    backbone: str
    task: str | None  # None: whichever
    regime: Any
    method: dict[str, Any]  # what must be among its settings
    same_protocol: bool
    differs: tuple[str, ...]  # in what, where it was not


class Figure(Described):
    """One printed number, of a task or the mean over the tasks beside it. Task and method are the source's names."""

    key: str
    title: str
    where: str
    task: str | None
    average_of: tuple[str, ...]
    method: str
    printed: str
    value: float
    deviation: float | None  # what stands behind ±
    compare: tuple[Comparison, ...]


def figures(folder: Path | None = None) -> list[Figure]:
    """Every number of the files in `folder`, else of those shipped: by name of file, then in the file's order."""
    found = sorted((folder or files.shipped("published")).glob("*.yaml"))
    return [figure for file in found for figure in load(file)]


def load(file: Path) -> list[Figure]:
    """The numbers of one file. InputError names what is wrong in it, and where."""
    problems: list[Problem] = []
    flat: list[Figure] = []
    source = parse(Source, read_yaml(file, Source.model_fields), "", problems)
    if source is not None:
        problems += _wrong_names(source)
    if source is not None and not problems:
        flat = [one for i, table in enumerate(source.tables) for one in _flat(source, table, f"tables[{i}]", problems)]
    if problems:
        raise InputError(str(file), problems)
    return flat


def _wrong_names(source: Source) -> Iterator[Problem]:
    """Tasks and methods that the file does not explain, or explains and names without having them."""
    tasks = {task for table in source.tables for task in _tasks(table)}
    methods = {row for table in source.tables for row in table.rows}
    for path, explained, names in (("tasks", source.tasks, tasks), ("methods", source.methods, methods)):
        yield from (Problem(f"{path}.{name}", "missing, but a table has it") for name in sorted(names - {*explained}))
        yield from (Problem(f"{path}.{name}", "found in no table") for name in explained if name not in names)
    yield from _wrong_differs("differs", source.differs, methods, tasks)
    for i, table in enumerate(source.tables):
        if table.average is not None and table.average not in table.columns:
            yield Problem(f"tables[{i}].average", unknown(table.average, filter(None, table.columns)))
        yield from _wrong_differs(f"tables[{i}].differs", table.differs, {*table.rows}, {*_tasks(table)})


def _wrong_differs(path: str, differs: tuple[Difference, ...], rows: set[str], tasks: set[str]) -> Iterator[Problem]:
    for i, one in enumerate(differs):
        for field, names, known in (("rows", one.rows, rows), ("columns", one.columns, tasks)):
            yield from (Problem(f"{path}[{i}].{field}", unknown(n, known)) for n in names or () if n not in known)


def _tasks(table: Table) -> tuple[str, ...]:
    return tuple(task for task in table.columns if task not in (None, table.average))


def _flat(source: Source, table: Table, path: str, problems: list[Problem]) -> Iterator[Figure]:
    """A table's numbers, row by row."""
    described = {name: getattr(table, name) for name in Described.model_fields}
    for row, cells in table.rows.items():
        place = f"{path}.rows.{row}"
        if len(cells) != len(table.columns):
            problems.append(Problem(place, f"found {len(cells)} numbers, expected {len(table.columns)}"))
            continue
        for i, (task, cell) in enumerate(zip(table.columns, cells, strict=True)):
            if cell is None:
                continue
            number = _number(str(cell))
            if number is None:
                problems.append(Problem(f"{place}[{i}]", f"found {shown(cell)}, expected a number: 90.4±0.2, 87, 1.5M"))
                continue
            yield Figure(
                **described,
                key=source.key,
                title=source.title,
                where=source.where,
                task=task,
                average_of=_tasks(table) if task is not None and task == table.average else (),
                method=row,
                printed=str(cell),
                value=number[0],
                deviation=number[1],
                compare=tuple(_compared(source, table, row, task, f"{path}.compare", problems)),
            )


def _number(printed: str) -> tuple[float, float | None] | None:
    """Value and deviation."""
    match = PRINTED.fullmatch(printed)
    if match is None:
        return None
    value, deviation = float(match["value"]) * FACTORS[match["factor"]], match["deviation"]
    return value, None if deviation is None else float(deviation)


def _compared(
    source: Source, table: Table, row: str, task: str | None, path: str, problems: list[Problem]
) -> Iterator[Comparison]:
    """The cells of ours for one number: none where we lack its task or method, or it is a mean over tasks."""
    setting, method = table.compare, source.methods[row]
    ours = None if task is None else source.tasks.get(task)
    if setting is None or method is None or (task is not None and ours is None):
        return
    differs = tuple(one.why for one in (*source.differs, *table.differs) if one.holds(row, task))
    place = f"{path}.same_protocol"
    if setting.same_protocol == bool(differs) and place not in [problem.path for problem in problems]:
        expected = f"the contrary for {row} on {task}, which differs in: {'; '.join(differs) or 'nothing'}"
        problems.append(Problem(place, f"found {setting.same_protocol}, expected {expected}"))
    yield Comparison(**setting.model_dump(), task=ours, method=method, differs=differs)
