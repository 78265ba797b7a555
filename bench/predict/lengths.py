"""How long the longest example is that a cell trains on: with the micro-batch, what its activations go by."""

from __future__ import annotations

from typing import Any

from bench import data, toy
from bench.cells import Cell, identity_json
from bench.settings import InputError
from bench.templates import Templater, tokenizer

LONGEST = 32  # texts that are tokenised: those with most characters

_known: dict[str, int] = {}


def longest(cell: Cell) -> int:
    """In tokens; `max_length` where data or tokenizer are not at hand."""
    key = ",".join(identity_json(getattr(cell, name)) for name in ("backbone", "task", "regime", "head", "seed"))
    if key not in _known:
        try:
            _known[key] = cell.max_length if cell.cost_only else _longest(cell)
        except (InputError, OSError):
            _known[key] = cell.max_length
    return min(_known[key], cell.max_length)


def _longest(cell: Cell) -> int:
    backbone = cell.backbone
    built_in = backbone.source == "built-in"
    tokens: Any = toy.tokenizer(backbone.name) if built_in else tokenizer(backbone.location, backbone.revision)
    templater = Templater(cell.task, tokens, backbone.form, cell.head.kind == "linear", cell.max_length)
    train = data.split(cell.task, cell.regime, cell.seed).train
    texts = sorted(train, key=lambda example: sum(map(len, example.texts)), reverse=True)[:LONGEST]
    return max(len(templater.encode(example.texts, example.label).ids) for example in texts)
