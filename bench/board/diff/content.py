"""A Difference and its Gate as plain data, whole and unrounded, for scripts."""

from __future__ import annotations

from typing import Any

from bench.board.diff.changes import Judged, Row
from bench.board.diff.difference import Difference
from bench.board.diff.gate import Gate, Limit
from bench.board.diff.ranks import RankMove
from bench.board.diff.reasons import Reason


def content(difference: Difference, gate: Gate | None = None) -> dict[str, Any]:
    matching = difference.matching
    made: dict[str, Any] = {
        "nothing_moved": difference.nothing_moved,
        "cells_in_both": len(matching.pairs),
        "only_in_a": [record.name for record in matching.only_first],
        "only_in_b": [record.name for record in matching.only_second],
        "tuning_cells_left_out": dict(zip("ab", matching.left_out, strict=True)),
        "changes": [_judged(one) for found in difference.judged.values() for one in found],
        "flips": [_flips(row) for row in difference.rows if row.flips],
        "rank_moves": [_rank_move(move) for move in difference.rank_moves],
        "why": [_reason(reason) for reason in difference.reasons],
        "settings_of_cells_in_one": [_reason(reason) for reason in difference.nearly],
        "ended_otherwise": [
            {"cell": pair.first.name, "a": pair.first.status, "b": pair.second.status}
            for pair in difference.ended_otherwise
        ],
    }
    return made | ({"gate": _gate(gate)} if gate else {})


def _row(row: Row) -> dict[str, Any]:
    return {"setting": row.setting, "method": row.method, "regularizer": row.regularizer}


def _judged(one: Judged) -> dict[str, Any]:
    change, interval = one.change, one.change.interval
    return {
        **_row(one.row),
        "quantity": change.quantity.name,
        "seeds": len(change.first),
        "a": change.before,
        "b": change.after,
        "ratio" if change.quantity.ratio else "difference": change.size,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "p": one.p,
        "verdict": one.verdict,
    }


def _flips(row: Row) -> dict[str, Any]:
    flips = row.flips
    assert flips is not None
    return {**_row(row), "lost": flips.lost, "gained": flips.gained, "p": flips.p}


def _rank_move(move: RankMove) -> dict[str, Any]:
    return {**_row(move.judged.row), "a": move.before, "b": move.after, "verdict": move.judged.verdict}


def _reason(reason: Reason) -> dict[str, Any]:
    return {"what": reason.what, "a": reason.first, "b": reason.second, "cells": reason.cells}


def _gate(gate: Gate) -> dict[str, Any]:
    return {
        "passed": gate.passed,
        "limits": [_limit(limit) for limit in gate.limits],
        "not_gated": [{**_row(row), "quantity": quantity.name, "why": why} for row, quantity, why in gate.not_gated],
        "missing": [{"cell": name, "b": status} for name, status in gate.missing],
    }


def _limit(limit: Limit) -> dict[str, Any]:
    """A ratio's `allowed` is what the mean of A may be multiplied by."""
    quantity, measured = limit.quantity, limit.measured
    return {
        **_row(limit.row),
        "quantity": quantity.name,
        "a": quantity.shown(measured.before),
        "b": quantity.shown(measured.after),
        "allowed": quantity.shown(quantity.worse * limit.allowed),
        "source": limit.source,
        "regressed": limit.regressed,
    }
