"""What a cost-only cell runs on: examples of random tokens, all as long as `max_length`, and a made-up vocabulary.

There is no tokenizer: of a backbone no more is known than how many tokens it has and what its config says of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.core.seeds import stream_seed
from bench.data.templates import Encoded
from bench.matrix.cell import Cell
from bench.models.vocabulary import Vocabulary

SPECIAL = 5  # smaller ids are taken to be special tokens
MASK = SPECIAL - 1
ANSWERS = (SPECIAL, SPECIAL + 1)  # the answer word of each class
MOST = 4096  # examples for training: further steps see them again


def examples(cell: Cell, words: Sequence[int], length: int, each: int) -> dict[str, list[Encoded]]:
    """Of train enough for all steps, or MOST; of dev and test `each`. Their tokens depend on the seed alone."""
    seed = cell.seed_of("sample")
    steps = max(cell.batch_size, min(cell.steps * cell.batch_size, MOST))
    return {
        split: _draw(count, words, length, cell.backbone.form == "masked", stream_seed(seed, f"tokens {split}"))
        for split, count in (("train", steps), ("dev", 1), ("test", each))
    }


def _draw(count: int, words: Sequence[int], length: int, masked: bool, seed: int) -> list[Encoded]:
    """The answer is at the end, where masked backbones have their mask."""
    rows = np.random.default_rng(seed).choice(np.asarray(words), (count, length))
    if masked:
        rows[:, -1] = MASK
    eligible = np.ones(length, dtype=np.int64)
    eligible[-1] = 0 if masked else 1
    segments = np.zeros(length, dtype=np.int64)
    return [Encoded(row, eligible, segments, length - 1, number % len(ANSWERS)) for number, row in enumerate(rows)]


def vocabulary(config: Any, rows: int) -> Vocabulary:
    """`config` of the backbone; `rows` of its word embeddings."""
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "decoder_start")}
    pad = getattr(config, "pad_token_id", None)
    return Vocabulary(
        classes=[[answer] for answer in ANSWERS],
        ordinary=[i for i in range(SPECIAL, rows) if i not in special],
        pad=0 if pad is None else pad,
        mask=MASK,
    )
