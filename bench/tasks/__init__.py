"""The tasks: a matrix names them, or gives one of a user's own."""

from __future__ import annotations

import functools

from bench.settings import Problem, unknown
from bench.tasks.base import Hub, Task
from bench.tasks.built_in import BUILT_IN, RANDOM
from bench.tasks.regimes import Regime, parse_regime
from bench.tasks.sentences import SENTENCES
from bench.tasks.superglue import SUPERGLUE

__all__ = ["RANDOM", "TASKS", "Hub", "Regime", "Task", "parse_regime", "parse_task", "tasks"]

TASKS: dict[str, Task] = {task.name: task for task in (*BUILT_IN, *SENTENCES, *SUPERGLUE, RANDOM)}


@functools.cache
def tasks() -> dict[str, Task]:
    """Ours and those of installed packages, by name."""
    return TASKS


def parse_task(value: object, path: str, problems: list[Problem]) -> Task | None:
    if isinstance(value, str) and value in tasks():
        return tasks()[value]
    problems.append(Problem(path, unknown(value, tasks())))
    return None
