"""Stability: how far seeds lie apart, and whether a regularizer brings them together."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bench.board.grouping import Row, Setting
from bench.board.statistics import Ratio, brown_forsythe, deviation_ratio


@dataclass(frozen=True)
class Steadied:
    """The spread of a row with a regularizer against that of the same method without one."""

    ratio: Ratio | None  # of the standard deviations; below 1: steadier than without
    p: float | None  # that both have the same spread (Brown and Forsythe)


def steadied(setting: Setting) -> list[Steadied | None]:
    """For each row of a setting; None where it has no regularizer, or no row without one beside it."""
    plain = {_method(row): row for row in setting.rows if row.regularizer == "none"}
    return [_against(row, plain.get(_method(row))) if row.regularizer != "none" else None for row in setting.rows]


def _against(row: Row, plain: Row | None) -> Steadied | None:
    if plain is None:
        return None
    first, second = ([[r.quality.test for r in one.finished if r.quality]] for one in (row, plain))
    return Steadied(deviation_ratio(first, second), brown_forsythe(first, second))


def _method(row: Row) -> str:
    return json.dumps({**row.records[0].cell, "regularizer": None}.get("method"), sort_keys=True)
