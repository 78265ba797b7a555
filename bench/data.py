"""Data: where examples come from, and which of them a cell sees.

Which examples are sampled depends on the cell's seed and nothing else: not on the method, the number of ranks or
the version of a library. Test is never touched by training or selection.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import toy
from bench.seeds import shuffled
from bench.settings import InputError, Problem, shown
from bench.tasks import Regime, Task

DEV = 1000  # further training examples that the regimes `total` and `full` keep as dev, at most


@dataclass(frozen=True)
class Example:
    texts: tuple[str, ...]
    label: int  # class index


@dataclass(frozen=True)
class Splits:
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    sample: str  # hash of the ids of the train and dev examples
    data: str  # hash of the content of all files read


# sources


def read(task: Task) -> tuple[dict[str, list[Example]], str]:
    """Every split of `task`, and the hash of what was read.

    InputError names file, line, field, what was found and what was expected.
    """
    if task.source == "built-in":
        rows = {split: toy.examples(int(task.folders[0]), split) for split in task.splits}
        splits = {split: [_example(task, row) for row in made] for split, made in rows.items()}
        return splits, hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]
    folder = find(task)
    digest = hashlib.sha256()
    splits = {}
    for split, name in task.splits.items():
        file = folder / f"{name}.jsonl"
        content = file.read_bytes()
        digest.update(content)
        splits[split] = _parse(task, file, content)
    return splits, digest.hexdigest()[:16]


def find(task: Task) -> Path:
    """The folder of `task` below BENCH_DATA that has all its splits. InputError says where it looked."""
    root = os.environ.get("BENCH_DATA")
    wanted = ", ".join(f"{name}.jsonl" for name in task.splits.values())
    if not root:
        message = f"is not set: task {task.name} expects {task.folders[0]}/ with {wanted} in the folder it names"
        raise InputError("environment", [Problem("BENCH_DATA", message)])
    for name in task.folders:
        folder = Path(root) / name
        if all((folder / f"{split}.jsonl").is_file() for split in task.splits.values()):
            return folder
    looked = ", ".join(str(Path(root) / name) for name in task.folders)
    raise InputError("environment", [Problem("BENCH_DATA", f"task {task.name}: expected {wanted} in {looked}")])


def _parse(task: Task, file: Path, content: bytes) -> list[Example]:
    examples: list[Example] = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            examples.append(_example(task, json.loads(line)))
        except (ValueError, TypeError) as error:
            raise InputError(str(file), [Problem(f"line {number}", str(error))]) from error
    if not examples:
        raise InputError(str(file), [Problem("file", "found no example, expected one JSON object a line")])
    return examples


def _example(task: Task, row: dict[str, Any]) -> Example:
    for field in (*task.fields, "label"):
        if field not in row:
            raise ValueError(f"field {field} is missing, found {', '.join(map(str, row))}")
    texts = tuple(row[field] for field in task.fields)
    for field, text in zip(task.fields, texts, strict=True):
        if not isinstance(text, str):
            raise ValueError(f"field {field}: found {shown(text)}, expected a text")
    if row["label"] not in task.labels:
        raise ValueError(f"field label: found {shown(row['label'])}, expected one of {list(task.labels)}")
    return Example(texts, task.labels.index(row["label"]))


# regimes


def split(task: Task, regime: Regime, seed: int) -> Splits:
    """The train, dev and test examples of a cell. The k examples of a seed are among its 2k."""
    splits, data = read(task)
    train = splits["train"]
    chosen, dev = sample([example.label for example in train], len(task.labels), regime, seed, task.name)
    given = regime.label == "full" and "dev" in splits
    if not dev and not given:
        message = f"found {len(train)} examples in train, too few to take a dev set from"
        raise InputError(f"task {task.name}", [Problem(f"regime {regime.label}", message)])
    if given:
        chosen, dev = list(range(len(train))), []
    ids = json.dumps([sorted(chosen), sorted(dev)])
    return Splits(
        train=[train[i] for i in chosen],
        dev=splits["dev"] if given else [train[i] for i in dev],
        test=splits["test"],
        sample=hashlib.sha256(ids.encode()).hexdigest()[:16],
        data=data,
    )


def sample(labels: Sequence[int], classes: int, regime: Regime, seed: int, task: str) -> tuple[list[int], list[int]]:
    """Ids of train and of dev among examples with these `labels`. ValueError when there are too few."""
    by_class = [shuffled([i for i, label in enumerate(labels) if label == c], seed, "sample") for c in range(classes)]
    sizes = [len(ids) for ids in by_class]
    if regime.per_class is not None:
        wanted = [regime.per_class] * classes
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
            raise InputError(f"task {task}", [Problem(f"regime {regime.label}: class {c}", message)])
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
