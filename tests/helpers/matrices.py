"""Matrices in tests: the type of the fixture that expands them, and what is said of wrong ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.core import files
from bench.core.settings import InputError

if TYPE_CHECKING:
    from bench.matrix.cell import Cell

Expand = Callable[..., "list[Cell]"]


def defaults(checkpoint: Path) -> dict[str, Any]:
    """One small cell on a checkpoint."""
    return {
        "backbone": {"path": str(checkpoint)},
        "task": "toy-foreign-0",
        "regime": {"per_class": 8},
        "method": "full",
        "steps": 6,
        "batch_size": 8,
        "evaluate_every": 3,
    }


def predivided(folder: Path, name: str, reduce_scatter: bool) -> dict[str, str]:
    """A ZeRO configuration with a setting of which DeepSpeed's stage 3 makes a fault, or an error."""
    config = json.loads((files.shipped("ds_configs") / "zero3.json").read_text())
    config["gradient_predivide_factor"] = 2.0
    config["zero_optimization"]["reduce_scatter"] = reduce_scatter
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    return {"path": str(file)}


def wrong(file: Path) -> list[str]:
    """The problems of a matrix, as `path: message`."""
    from bench.matrix import matrix

    with pytest.raises(InputError) as caught:
        matrix.load(str(file)).expand()
    assert all(line.startswith(f"{file}: ") for line in str(caught.value).splitlines())
    return [str(problem) for problem in caught.value.problems]
