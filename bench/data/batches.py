"""Batches of encoded examples: their order, each rank's share, padding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from bench.core.seeds import stream_seed
from bench.data.templates import Encoded
from bench.models.stack import Batch

EVALUATION_BATCH = 64  # examples per rank and forward, where nothing trains
POOL = 8  # batches whose examples are grouped by length together


def training_batches(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """`steps` global batches of example ids, every example once an epoch; examples of like length together.

    Each batch comes sorted by length and has `batch_size` examples, all different where there are so many: what an
    epoch leaves over starts the next one's first batch, and examples are grouped by length within an epoch only.
    """
    generator = np.random.default_rng(stream_seed(seed, "order"))

    def epochs() -> Iterator[list[int]]:
        left: list[int] = []
        while True:
            order: list[int] = generator.permutation(len(lengths)).tolist()
            line = left + sorted(order, key=set(left).__contains__)  # those left over come last, in their order
            whole = [line[i : i + batch_size] for i in range(0, len(line) - batch_size + 1, batch_size)]
            apart = 1 if left else 0  # a batch across two epochs is not grouped with others
            left = line[len(whole) * batch_size :]
            yield from whole[:apart]
            for start in range(apart, len(whole), POOL):
                pool = sorted(itertools.chain(*whole[start : start + POOL]), key=lengths.__getitem__)
                for i in generator.permutation(len(pool) // batch_size) * batch_size:
                    yield pool[i : i + batch_size]

    for batch in itertools.islice(epochs(), steps):
        yield sorted(batch, key=lengths.__getitem__)


def share(ids: list[int], rank: int, ranks: int, micro: int) -> list[list[int]]:
    """The micro-batches of one rank: neighbours in length together, every rank with like lengths."""
    per_pass = ranks * micro
    return [ids[start : start + per_pass][rank::ranks] for start in range(0, len(ids), per_pass)]


def heaviest(drawn: list[list[int]], lengths: list[int]) -> int:
    """The step with the longest example; not the first, in which the optimizer makes its state, if there is another."""
    steps = range(len(drawn))[1:] or range(1)
    return max(steps, key=lambda step: max(lengths[i] for i in drawn[step]))


def collate(
    examples: Sequence[Encoded], pad: int, keys: Sequence[int], index: Sequence[int], device: torch.device
) -> Batch:
    """Padded on the right to the longest of `examples`."""
    length = max(len(example.ids) for example in examples)

    def padded(rows: Sequence[np.ndarray], fill: int) -> torch.Tensor:
        out = np.full((len(rows), length), fill, dtype=np.int64)
        for i, row in enumerate(rows):
            out[i, : len(row)] = row
        return torch.from_numpy(out)

    return Batch(
        ids=padded([example.ids for example in examples], pad),
        text_mask=padded([np.ones_like(example.ids) for example in examples], 0).bool(),
        perturbable_mask=padded([example.perturbable for example in examples], 0).bool(),
        segments=padded([example.segments for example in examples], 0),
        answer=torch.tensor([example.answer for example in examples]),
        labels=torch.tensor([example.label for example in examples]),
        noise_seeds=torch.tensor(keys),
        example_ids=torch.tensor(index),
    ).to(device)


def rows(batch: Batch, ids: torch.Tensor) -> dict[int, Encoded]:
    """The examples of `batch` with other tokens `ids` [B, T], by their index and without padding."""
    made: dict[int, Encoded] = {}
    plain = replace(batch, ids=ids).to(torch.device("cpu"))
    for i, length in enumerate(plain.text_mask.sum(1).tolist()):
        made[int(plain.example_ids[i])] = Encoded(
            ids=plain.ids[i, :length].numpy(),
            perturbable=plain.perturbable_mask[i, :length].long().numpy(),
            segments=plain.segments[i, :length].numpy(),
            answer=int(plain.answer[i]),
            label=int(plain.labels[i]),
        )
    return made


def evenly(lengths: Sequence[int], size: int, rank: int, ranks: int) -> list[list[int]]:
    """All examples in batches of `size`, long ones first: this rank's share, the same number of batches on each.

    What runs out of memory does so at once.

    ZeRO-3 needs all ranks in each forward: one that has no more takes the first batch again.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    mine = batches[rank::ranks]
    return mine + batches[:1] * (-(-len(batches) // ranks) - len(mine))
