"""`bench list`: what a matrix may name, one line each."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from bench.core import files
from bench.core.accelerators import gpus_possible

if TYPE_CHECKING:
    from bench.data.tasks import Task

Listing = tuple[list[str], list[list[str]]]  # head, rows


def listing(what: str) -> Listing:
    return LISTINGS[what]()


def methods() -> Listing:
    from bench.methods import METHODS

    rows = [
        [name, _module_summary(kind), _recipe(kind), kind.source, _fields(kind, {"kind", "recipe"})]
        for name, kind in METHODS.items()
    ]
    return ["kind", "what it is", "recipe", "source", "settings"], rows


def regularizers() -> Listing:
    from bench.regularizers import REGULARIZERS

    rows = [
        [str(kind.model_fields["kind"].get_default()), str(kind.model_fields["space"].get_default() or "")]
        + [_fields(kind, {"kind", "space"}), _module_summary(kind)]
        for kind in REGULARIZERS
    ]
    return ["kind", "space", "settings", "what it is"], rows


def backbones() -> Listing:
    from bench.models.backbones import BACKBONES

    rows = [
        [b.name, b.source, b.location, b.model_type, str(b.layers), "built in" if b.shaped else ""]
        for b in BACKBONES.values()
    ]
    folder = ["{path: folder}", "folder", "", "", "", "its config.json"]
    return ["name", "source", "location", "type", "layers", "shape for weights: random"], [*rows, folder]


def tasks() -> Listing:
    from bench.data.tasks import tasks as known
    from bench.data.tasks.superglue import RECORD

    rows = [[t.name, ", ".join(t.fields), " / ".join(t.words), t.masked, t.metric, _where(t)] for t in known().values()]
    own = ["{path: my_task.yaml}", "yours", "", "", "", "its file"]
    none = ["(record)", "", "", "", "", RECORD]
    return ["name", "fields", "answer words", "template", "metric", "where"], [*rows, own, none]


def protocols() -> Listing:
    from bench.matrix.protocols import PROTOCOLS
    from bench.matrix.protocols.base import short

    rows: list[list[str]] = []
    for one in PROTOCOLS.values():
        rows.append([one.name, one.title, f"seeds {' '.join(map(str, one.seeds))}" if one.seeds else "", one.source])
        for rule in one.rules:
            where = ", ".join(" or ".join(allowed) for allowed in rule.when.values()) or "every cell"
            values = ", ".join(f"{path} {short(value)}" for path, value in rule.values.items())
            rows.append([one.name, where, values, rule.source])
        rows += [[one.name, "done otherwise here", text, ""] for text in one.differs]
    return ["name", "cells", "values", "source"], rows


def zero() -> Listing:
    return ["name"], [[name] for name in files.shipped_names("ds_configs", ".json")]


def matrices() -> Listing:
    names = files.shipped_names("matrices", ".yaml")
    heads = [(files.shipped("matrices") / f"{name}.yaml").read_text("utf-8").splitlines()[0] for name in names]
    return ["name", "what it is"], [[name, head.lstrip("# ")] for name, head in zip(names, heads, strict=True)]


def kernels() -> Listing:
    from bench import kernels
    from bench.kernels.forms import FORMS, unavailable

    here = "cuda" if gpus_possible() else "cpu"
    forms = ", ".join(form for form in FORMS if unavailable(form, here) is None)
    rows: list[list[str]] = []
    for name in ("noise", "ascent", "swap"):
        tree = ast.parse(Path(kernels.__path__[0], f"{name}.py").read_text("utf-8"))  # importing it needs torch
        rows.append([name, (ast.get_docstring(tree) or "").splitlines()[0], forms])
    return ["name", "what it is", f"forms that run here ({here})"], rows


LISTINGS: dict[str, Callable[[], Listing]] = {
    "methods": methods,
    "backbones": backbones,
    "tasks": tasks,
    "protocols": protocols,
    "regularizers": regularizers,
    "kernels": kernels,
    "zero": zero,
    "matrices": matrices,
}


def _where(task: Task) -> str:
    """Where its data is looked for."""
    if task.source in ("built-in", "random"):
        return task.source
    folders = [f"$BENCH_DATA/{name}" for name in (task.folder, task.fewglue) if name]
    hub = [" ".join(["hub", task.hub.path, task.hub.config or ""]).strip()] if task.hub else []
    return ", ".join([*folders, *hub])


def _fields(kind: type[BaseModel], hidden: set[str]) -> str:
    shown = {name: info for name, info in kind.model_fields.items() if name not in hidden}
    return " ".join(name if info.is_required() else f"{name}={info.get_default()}" for name, info in shown.items())


def _recipe(kind: type[BaseModel]) -> str:
    recipe: Any = kind.model_fields["recipe"].get_default()
    warmup = f"warm-up {recipe.warmup:.0%}"
    return f"AdamW {recipe.learning_rate:g}, {warmup}, {recipe.schedule}, decay {recipe.weight_decay:g}"


def _module_summary(kind: type[BaseModel]) -> str:
    """The first line of the docstring of its file, without its source."""
    text = sys.modules[kind.__module__].__doc__ or ""
    return text.strip().splitlines()[0].split(" (")[0].rstrip("., ")
