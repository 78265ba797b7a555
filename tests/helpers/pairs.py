"""Fewer rows of a product: what occurs together is tested together by default; the full tier has every row."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import permutations
from typing import Any

import pytest

FULL = pytest.mark.full.mark
Param = type(pytest.param())
Classes = dict[str, Callable[[Any], object]]


def covering(names: str, rows: Iterable[Sequence[Any]], ids: Any = None, **classes: Callable[[Any], object]) -> Any:
    """`pytest.mark.parametrize` over all rows, `tiered`."""
    return pytest.mark.parametrize(names, tiered(names, rows, **classes), ids=ids)


def tiered(names: str, rows: Iterable[Sequence[Any]], **classes: Callable[[Any], object]) -> list[Any]:
    """All rows as `pytest.param`. Those beyond a covering subset are marked `full`.

    In the subset every value of an axis meets each value of every other axis that it meets in any row. An axis with
    a class, as in `family=form_of`, is met by one of its values from each class: `tiered("method, family", rows,
    family=form_of, method=mechanism_of)` has every method on each form, and every family with each mechanism.

    A row may be a `pytest.param`, and is left out of the subset where that is marked `full`.
    """
    axes = [name.strip() for name in names.split(",")]
    params = [row if isinstance(row, Param) else pytest.param(*row) for row in rows]
    kept = cover([set() if FULL in one.marks else meetings(axes, one.values, classes) for one in params])
    return [
        one if i in kept or FULL in one.marks else pytest.param(*one.values, marks=(*one.marks, FULL), id=one.id)
        for i, one in enumerate(params)
    ]


def meetings(axes: list[str], row: Sequence[Any], classes: Classes) -> set[Hashable]:
    """What a row tests: (axis, its value, another axis, the class of its value) of all axes."""
    values = {axis: repr(value) for axis, value in zip(axes, row, strict=True)}
    kinds = {axis: repr(classes[axis](v)) if axis in classes else repr(v) for axis, v in zip(axes, row, strict=True)}
    return {(one, values[one], other, kinds[other]) for one, other in permutations(axes, 2)}


def cover(sets: Sequence[set[Hashable]]) -> set[int]:
    """The places of few sets that together hold what all do; each is the one with most that is new (Chvátal 1979)."""
    missing = set[Hashable]().union(*sets)
    queue, kept = [(-len(one), i) for i, one in enumerate(sets)], set[int]()
    heapq.heapify(queue)
    while missing:
        _, i = heapq.heappop(queue)
        gain = -len(sets[i] & missing)
        if queue and gain > queue[0][0]:  # what was popped has become poorer than another may be
            heapq.heappush(queue, (gain, i))
        else:
            kept.add(i)
            missing -= sets[i]
    return kept
