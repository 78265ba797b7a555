"""`python -m light_run` is `bench`, except that its ranks compute nothing: light_worker.py."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import light_worker
from places import HELPERS, ROOT

from bench import training
from bench.cli import main
from bench.matrix import matrix
from bench.matrix.cell import Cell


def variables(cells: Iterable[Cell], folder: Path) -> dict[str, str]:
    """What `light_run` of these cells needs in its environment. `folder`: for the records that ranks are to leave."""
    light_worker.known(cells, folder / "known.json")
    return {
        light_worker.KNOWN: str(folder / "known.json"),
        "PYTHONPATH": os.pathsep.join([str(HELPERS), str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }


def instead(file: Path) -> dict[str, str]:
    """For what starts `bench` in tests: the module that is run instead of it for this matrix, and its variables."""
    return {"module": "light_run", **variables(matrix.load(str(file)).expand(), file.parent)}


if __name__ == "__main__":
    training.WORKER = light_worker.__name__
    main.main()
