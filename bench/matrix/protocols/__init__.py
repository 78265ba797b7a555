"""Recipes of papers by name: what a cell follows, and where it departs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.data.tasks import Task
from bench.matrix.protocols.base import Facts, Protocol, Rule, place
from bench.matrix.protocols.freelb import FREELB
from bench.matrix.protocols.lpt import LPT
from bench.matrix.protocols.p_tuning import FEWGLUE, PTUNING_V2
from bench.models.backbones import Backbone

__all__ = ["PROTOCOLS", "Facts", "Protocol", "Rule", "facts", "place"]

PROTOCOLS: dict[str, Protocol] = {one.name: one for one in (LPT, PTUNING_V2, FEWGLUE, FREELB)}


def facts(backbone: Backbone, task: Task, method: object, regularizer: object) -> Facts:
    """What rules ask for; methods and regularizers as a matrix or a cell's content has them."""
    return {
        "backbone": backbone.name,
        "form": backbone.form,
        "task": task.name,
        "method": _kind(method),
        "regularizer": _kind(regularizer),
        "space": str(regularizer.get("space") or "embeddings") if isinstance(regularizer, Mapping) else "embeddings",
    }


def _kind(raw: object) -> str:
    kind: Any = raw.get("kind") if isinstance(raw, Mapping) else raw
    return str(kind)
