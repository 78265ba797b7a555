"""Which examples are answered right, found by all ranks together."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from bench.engine import World
from bench.loader import Loader, evenly
from bench.templates import Encoded
from bench.tuned import Tuned


@torch.no_grad()
def outcomes(
    tuned: Tuned,
    examples: list[Encoded],
    loader: Loader,
    world: World,
    followed: AbstractContextManager[None] | None = None,
) -> str:
    """One character per example: 1 right, 0 wrong. `followed` is around the first pass. A collective call."""
    right: dict[int, bool] = {}
    with tuned.evaluating(), loader.ahead(evenly(examples, world)) as loaded:
        for number, (batch, below, _) in enumerate(loaded):
            around: AbstractContextManager[None] = nullcontext()
            if number == 0 and followed is not None:
                loaded.settle()  # so that the batches that wait are the same ones each time
                around = followed
            with around, tuned.knowing(batch, below):
                predicted = tuned.head.scores(tuned.logits(batch)).argmax(1)
            right.update(zip(batch.index.tolist(), (predicted == batch.labels).tolist(), strict=True))
    merged = world.merge(right)
    return "".join("1" if merged[i] else "0" for i in range(len(examples)))


def share_right(found: str) -> float:
    return found.count("1") / len(found)
