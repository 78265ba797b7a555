"""How long the longest examples are that a cell trains on and is tested on: what its activations go by."""

from __future__ import annotations

from typing import NamedTuple

from bench.core.settings import InputError
from bench.data.splits import Example, split
from bench.data.templates import Templater, tokenizer
from bench.matrix.cell import Cell, identity_json

LONGEST = 32  # texts that are tokenised: those with most characters
SEEN = ("backbone", "task", "regime", "head", "max_length", "weights")


class Lengths(NamedTuple):
    """In tokens."""

    train: int
    test: int


_known: dict[str, Lengths] = {}


def longest(cell: Cell) -> Lengths:
    """`max_length` where data or tokenizer are not at hand."""
    key = ",".join([*(identity_json(getattr(cell, name)) for name in SEEN), str(cell.seed_of("sample"))])
    if key not in _known:
        try:
            _known[key] = Lengths(cell.max_length, cell.max_length) if cell.cost_only else _longest(cell)
        except (InputError, OSError):
            _known[key] = Lengths(cell.max_length, cell.max_length)
    return _known[key]


def _longest(cell: Cell) -> Lengths:
    backbone, plain = cell.backbone, cell.head.kind == "linear"
    tokens = tokenizer(backbone.checkpoint, backbone.revision)
    templater = Templater(cell.task, tokens, backbone.form, plain, cell.max_length)

    def of(examples: list[Example]) -> int:
        texts = sorted(examples, key=lambda example: sum(map(len, example.texts)), reverse=True)[:LONGEST]
        encoded = templater.encode_all([one.texts for one in texts], [one.label for one in texts])
        return max(len(one.ids) for one in encoded)

    splits = split(cell.task, cell.regime, cell.seed_of("sample"))
    return Lengths(of(splits.train), of(splits.test))
