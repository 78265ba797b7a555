"""Matrices in tests: the type of the fixture that expands them, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.settings import InputError

if TYPE_CHECKING:
    from bench.cells import Cell

Expand = Callable[..., "list[Cell]"]


def wrong(file: Path) -> list[str]:
    """The problems of a matrix, as `path: message`."""
    from bench import matrix

    with pytest.raises(InputError) as caught:
        matrix.load(str(file)).expand()
    assert all(line.startswith(f"{file}: ") for line in str(caught.value).splitlines())
    return [str(problem) for problem in caught.value.problems]
