"""The tasks: a matrix names them, changes them or gives one of a user's own; installed packages add theirs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from bench.core import files
from bench.core.settings import InputError, Problem, departures, parse, shown, unknown
from bench.core.strict_files import read_yaml
from bench.data.tasks.base import Hub, Task
from bench.data.tasks.built_in import BUILT_IN, RANDOM
from bench.data.tasks.pairs import PAIRS
from bench.data.tasks.regimes import Regime, parse_regime
from bench.data.tasks.sentences import SENTENCES
from bench.data.tasks.superglue import SUPERGLUE

__all__ = ["RANDOM", "TASKS", "Hub", "Regime", "Task", "known", "label", "parse_regime", "parse_task", "tasks"]

TASKS: dict[str, Task] = {task.name: task for task in (*BUILT_IN, *SENTENCES, *PAIRS, *SUPERGLUE, RANDOM)}
GROUP = "promptzero.tasks"  # entry points of packages: each a Task, or several


@functools.cache
def tasks() -> dict[str, Task]:
    """Ours and those of installed packages, by name. InputError names an entry point that gives none."""
    found = dict(TASKS)
    for entry in metadata.entry_points(group=GROUP):
        for task in _load(entry):
            if task.name in found:
                raise _broken(entry, f"found a task {task.name}, which there is already: expected another name")
            found[task.name] = task
    return found


def known(name: str) -> Task | None:
    """The task of this name; what packages add is looked for only where it is none of ours."""
    return TASKS.get(name) or tasks().get(name)


def label(task: Task) -> str:
    """The name, and where a matrix departs from the task of that name."""
    named = known(task.name)
    if named is None or named == task:
        return task.name
    changed = [part for part in departures(task, {"name"}) if part not in departures(named, {"name"})]
    return " ".join([task.name, *changed])


def parse_task(value: object, path: str, problems: list[Problem]) -> Task | None:
    """A name, `{name: sst2, words: [bad, good]}`, which changes what it names, or `{path: my_task.yaml}`.

    The path may hold environment variables.
    """
    fields: dict[Any, Any] = dict(value) if isinstance(value, Mapping) else {"name": value}
    if "path" in fields:
        for key in fields.keys() - {"path"}:
            problems.append(Problem(f"{path}.{key}", "unknown key: expected path alone, the rest in its file"))
        return _own(fields["path"], f"{path}.path", problems)
    name = fields.get("name")
    task = known(name) if isinstance(name, str) else None
    if task is None:
        found = unknown(value if name is None else name, tasks())
        problems.append(Problem(path, f"{found}, {{name: one of them, with what changes}} or {{path: a task's YAML}}"))
        return None
    changed = {key: part for key, part in fields.items() if key != "name"}
    return parse(Task, {**task.model_dump(), **changed}, path, problems) if changed else task


def _own(location: object, path: str, problems: list[Problem]) -> Task | None:
    """The task in a file with the fields of Task; its data is in the folder of its name, if it says nothing else."""
    if not isinstance(location, str):
        problems.append(Problem(path, f"found {shown(location)}, expected a file"))
        return None
    try:
        file = files.expand_path(location)
    except ValueError as error:
        problems.append(Problem(path, str(error)))
        return None
    try:
        fields = read_yaml(file, Task.model_fields)
        if known(name := str(fields.get("name"))) is not None:
            expected = f"expected another name, or {{name: {name}, with what changes}} in the matrix"
            raise InputError(str(file), [Problem("name", f"found {name}, which there is already: {expected}")])
    except InputError as error:
        problems += [Problem(path, f"{error.file}: {problem}") for problem in error.problems]
        return None
    if not {"folder", "hub"} & fields.keys():
        fields["folder"] = name
    found: list[Problem] = []
    task = parse(Task, fields, "task", found)
    problems += [Problem(path, f"{file}: {str(problem).removeprefix('task.')}") for problem in found]
    return task


def _load(entry: metadata.EntryPoint) -> list[Task]:
    try:
        made = entry.load()
    except Exception as error:  # whatever another's code does
        raise _broken(entry, f"{type(error).__name__}: {error}") from error
    several = made if isinstance(made, list | tuple) else [made]
    for one in several:
        if not isinstance(one, Task):
            raise _broken(entry, f"found {shown(one)}, expected a bench.data.tasks.Task or a list of them")
    return list(several)


def _broken(entry: metadata.EntryPoint, message: str) -> InputError:
    package = entry.dist.name if entry.dist else "a package"
    return InputError(f"{package}'s entry point", [Problem(f"{GROUP} {entry.name} = {entry.value}", message)])
