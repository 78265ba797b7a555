"""Data: where examples come from, and which of them a cell sees.

Which examples are sampled depends on the cell's seed and nothing else: not on the method, the number of ranks or
the version of a library. Test is never touched by training or selection.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.core.seeds import shuffled
from bench.core.settings import InputError, Problem, shown
from bench.core.strict_files import LONE_SURROGATE
from bench.data import sources
from bench.data.sources import Part
from bench.data.tasks import Regime, Task

DEV = 1000  # further training examples that the regimes `total` and `full` keep as dev, at most
FEWGLUE = {"train": ("train",), "dev": ("dev32",), "test": ("validation",)}
Form = Callable[[dict[str, Any]], list[dict[str, Any]]]


@dataclass(frozen=True)
class Example:
    texts: tuple[str, ...]
    label: int  # class index


@dataclass(frozen=True)
class Examples:
    """All that a task has."""

    splits: dict[str, list[Example]]
    parts: dict[str, int]  # of test: so many examples of each file, in this order
    origin: str  # where they come from
    hash: str  # of the content: texts and classes, wherever they come from


@dataclass(frozen=True)
class Splits:
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    parts: dict[str, int]  # of test
    chosen: tuple[list[int], list[int]]  # train and dev: positions in the task's train split; dev [] where it is given
    sample: str  # hash of the data and the ids of the train and dev examples
    data: str  # hash of all that the task has
    origin: str


# sources


def read_examples(task: Task, fewglue: bool = False) -> Examples:
    """Every split of `task`, or of its FewGLUE form; read once a process.

    InputError names file, line, field, what was found and what was expected.
    """
    return _read(task.model_dump_json(), fewglue, os.environ.get("BENCH_DATA", ""))


@functools.lru_cache(maxsize=8)
def _read(task_json: str, fewglue: bool, root: str) -> Examples:
    """`root` is part of the key: BENCH_DATA as it is now."""
    task = Task.model_validate_json(task_json)
    if fewglue:
        found = sources.read(task, FEWGLUE, task.fewglue, None)
    else:
        found = sources.read(task, task.splits, task.folder, task.hub)
    form = _form(task)
    parsed = {split: [_examples(task, part, form) for part in parts] for split, parts in found.parts.items()}
    splits = {split: [example for part in parts for example in part] for split, parts in parsed.items()}
    sizes = zip(found.parts["test"], parsed["test"], strict=True)
    content = {split: [(example.texts, example.label) for example in made] for split, made in splits.items()}
    return Examples(
        splits=splits,
        parts={part.name: len(made) for part, made in sizes},
        origin=found.origin,
        hash=digest(content),
    )


def digest(content: Any) -> str:
    """Of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _form(task: Task) -> Form:
    """What makes the task's rows of a row as it is read."""
    if not task.form:
        return lambda row: [row]
    module, _, name = task.form.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        message = f"found {task.form}, expected module:function: {error}"
        raise InputError(f"task {task.name}", [Problem("form", message)]) from error


def _examples(task: Task, part: Part, form: Form) -> list[Example]:
    made: list[Example] = []
    for place, row in part.rows:
        try:
            made += [_example(task, one) for one in form(row)]
        except KeyError as error:
            message = f"field {error.args[0]} is missing, found {', '.join(map(str, row))}"
            raise InputError(part.where, [Problem(place, message)]) from error
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            raise InputError(part.where, [Problem(place, str(error))]) from error
    return made


def _example(task: Task, row: dict[str, Any]) -> Example:
    texts = tuple(row[field] for field in task.fields)
    for field, text in zip(task.fields, texts, strict=True):
        if not isinstance(text, str):
            raise ValueError(f"field {field}: found {shown(text)}, expected a text")
        if not text.isascii() and (lone := LONE_SURROGATE.search(text)):
            raise ValueError(f"field {field}: found {lone[0]!r}, half a character, expected a text")
    if row["label"] not in task.labels:
        hint = " (YAML takes yes and no for true and false: put quotes around them)" if _read_as_bool(task, row) else ""
        raise ValueError(f"field label: found {shown(row['label'])}, expected one of {list(task.labels)}{hint}")
    return Example(texts, task.labels.index(row["label"]))


def _read_as_bool(task: Task, row: dict[str, Any]) -> bool:
    return isinstance(row["label"], str) and any(isinstance(label, bool) for label in task.labels)


# regimes


def split(task: Task, regime: Regime, seed: int) -> Splits:
    """The train, dev and test examples of a cell. The k examples of a seed are among its 2k."""
    found = read_examples(task, regime.fewglue)
    train, given = found.splits["train"], found.splits.get("dev", [])
    if given and regime.label in ("full", "fewglue"):
        chosen, dev = list(range(len(train))), []
    else:
        given = []
        where = f"task {task.name}, {found.origin}, train"
        chosen, dev = sample([example.label for example in train], task.labels, regime, seed, where)
        if not dev:
            message = f"found {len(train)} examples, too few to take a dev set from"
            raise InputError(where, [Problem(f"regime {regime.label}", message)])
    return Splits(
        train=[train[i] for i in chosen],
        dev=given or [train[i] for i in dev],
        test=found.splits["test"],
        parts=found.parts,
        chosen=(chosen, dev),
        sample=digest([found.hash, sorted(chosen), sorted(dev)]),
        data=found.hash,
        origin=found.origin,
    )


def sample(
    labels: Sequence[int], names: Sequence[object], regime: Regime, seed: int, where: str
) -> tuple[list[int], list[int]]:
    """Ids of train and of dev among examples of these classes. InputError names the class that has too few."""
    classes = range(len(names))
    by_class = [shuffled([i for i, label in enumerate(labels) if label == c], seed, "sample") for c in classes]
    sizes = [len(ids) for ids in by_class]
    if regime.per_class is not None:
        wanted = [regime.per_class] * len(names)
        reserved = wanted
    elif regime.total is not None:
        wanted = apportion(regime.total, sizes)
        left = [size - n for size, n in zip(sizes, wanted, strict=True)]
        reserved = apportion(min(DEV, max(sum(left), 0)), left)
    else:
        reserved = apportion(min(DEV, len(labels) // 10), sizes)
        wanted = [size - n for size, n in zip(sizes, reserved, strict=True)]
    for c, (size, n, m) in enumerate(zip(sizes, wanted, reserved, strict=True)):
        if n + m > size or (regime.total is not None and m < 1):
            message = f"expected {n} examples for train and at least {max(m, 1)} for dev, found {size}"
            raise InputError(where, [Problem(f"regime {regime.label}: label {names[c]!r}", message)])
    train = [i for ids, n in zip(by_class, wanted, strict=True) for i in ids[:n]]
    dev = [i for ids, n, m in zip(by_class, wanted, reserved, strict=True) for i in ids[n : n + m]]
    return train, dev


def apportion(total: int, sizes: Sequence[int]) -> list[int]:
    """`total` shared out in the ratio of `sizes`, by largest remainder."""
    whole = sum(sizes)
    if whole == 0:
        return [0] * len(sizes)
    exact = [total * size / whole for size in sizes]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda c: (shares[c] - exact[c], c))
    for c in by_remainder[: total - sum(shares)]:
        shares[c] += 1
    return shares
