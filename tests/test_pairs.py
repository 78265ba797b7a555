"""The default tier misses no pair of values, and the full tier no row."""

from __future__ import annotations

import random
from itertools import combinations, product

import pytest
from pairs import covering
from tables import MECHANISMS, METHOD_TABLE, MODEL_TYPES
from tiny_models import MODELS, made
from tuned_models import CONTRACT, cases, form, mechanism

NEW = {"kind": "new"}
Rows = list[tuple]


def tiers(mark: pytest.MarkDecorator) -> tuple[Rows, Rows]:
    """The rows of the default tier, and those of the full tier only."""
    default: Rows = []
    full: Rows = []
    for row in mark.args[1]:
        (full if row.marks else default).append(tuple(row.values))
    return default, full


def pairs(rows: Rows) -> set[str]:
    """Written plainly, apart from the code that is tested."""
    return {repr((i, row[i], j, row[j])) for row in rows for i, j in combinations(range(len(row)), 2)}


def check(names: str, rows: Rows) -> Rows:
    default, full = tiers(covering(names, rows))
    assert sorted(map(repr, default + full)) == sorted(map(repr, rows)), "every row is in one tier"
    assert pairs(default) == pairs(rows)
    return default


def test_every_pair_of_the_contract_is_in_the_default_tier() -> None:
    default = check("method, family, regularizer", CONTRACT)
    assert len(default) < 1.2 * len(cases()), "every method meets every family once; little is added"


@pytest.mark.parametrize("seed", range(20))
def test_every_pair_of_what_is_legal_is_in_the_default_tier(seed: int) -> None:
    draw = random.Random(seed)
    axes = [range(draw.randint(1, 7)) for _ in range(draw.randint(2, 5))]
    check(", ".join("abcde"[: len(axes)]), [row for row in product(*axes) if draw.random() < 0.6])


def test_a_subset_is_small() -> None:
    """No fewer than 7 x 7 rows have all pairs of four axes of seven values."""
    default = check("a, b, c, d", list(product(range(7), repeat=4)))
    assert len(default) <= 1.6 * 49, len(default)


def test_a_subset_is_the_same_every_time() -> None:
    once, again = (tiers(covering("method, family, regularizer", CONTRACT)) for _ in range(2))
    assert once == again


@pytest.mark.parametrize("new", [(NEW, "bert"), (METHOD_TABLE[0], "unheard-of")])
def test_what_is_new_is_tested_by_default_by_being_listed(new: tuple) -> None:
    default, _ = tiers(covering("method, family, regularizer", [*CONTRACT, (*new, {"kind": "none"})]))
    assert (*new, {"kind": "none"}) in default
    default, _ = tiers(covering("method, family", [*cases(), new], method=mechanism))
    assert new in default


def test_with_classes_every_value_meets_every_class() -> None:
    rows = cases()
    default, full = tiers(covering("method, family", rows, method=mechanism, family=form))
    assert len(default) + len(full) == len(rows) and len(default) < len(rows) / 2
    for seen in (
        lambda method, family: repr((method, form(family))),
        lambda method, family: repr((mechanism(method), family)),
    ):
        assert {seen(*row) for row in default} == {seen(*row) for row in rows}


def test_tables_are_of_what_there_is() -> None:
    assert {family: made(family)[0].config.model_type for family in MODELS} == MODEL_TYPES
    assert set(MECHANISMS) < {method["kind"] for method in METHOD_TABLE}
