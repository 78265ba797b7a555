"""What each example is answered with, found by all ranks together, and what that is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from bench.data import metrics
from bench.data.templates import Encoded
from bench.methods.tuned_model import TunedModel
from bench.training.engine import World
from bench.training.loader import Loader, evenly


@dataclass(frozen=True)
class Outcomes:
    """The class of each example and the predicted one, in the order of the examples."""

    classes: list[int]
    predicted: list[int]

    @property
    def bits(self) -> str:
        """A character for each: 1 right, 0 wrong."""
        return "".join("01"[right] for right in map(int.__eq__, self.classes, self.predicted))

    @property
    def digits(self) -> str:
        """A character for each: the predicted class as a digit of base 36."""
        return "".join(metrics.DIGITS[one] for one in self.predicted)

    def scores(self, names: Sequence[str], parts: Mapping[str, int] | None = None) -> dict[str, float]:
        """By metric; `parts` as in `metrics.scores`, None for one."""
        return metrics.scores(names, self.classes, self.predicted, parts or {"all": len(self.classes)})

    def constant(self, names: Sequence[str], parts: Mapping[str, int]) -> float:
        """The best score that one answer to every example would get: of accuracy, that of the most frequent class."""
        always = [Outcomes(self.classes, [one] * len(self.classes)) for one in sorted(set(self.classes))]
        return max(metrics.mean(one.scores(names, parts)) for one in always)


@torch.no_grad()
def outcomes(
    tuned: TunedModel,
    examples: list[Encoded],
    loader: Loader,
    world: World,
    followed: AbstractContextManager[None] | None = None,
) -> Outcomes:
    """`followed` is around the first pass. A collective call, which gives every rank the same."""
    predicted: dict[int, int] = {}
    with tuned.evaluating(), loader.ahead(evenly(examples, world)) as loaded:
        for number, (batch, below, _) in enumerate(loaded):
            around: AbstractContextManager[None] = nullcontext()
            if number == 0 and followed is not None:
                loaded.settle()  # so that the batches that wait are the same ones each time
                around = followed
            with around:
                answered = tuned.head.scores(tuned.logits(batch, below=below)).argmax(1)
            predicted.update(zip(batch.example_ids.tolist(), answered.tolist(), strict=True))
    merged = world.merge(predicted)
    return Outcomes([example.label for example in examples], [merged[i] for i in range(len(examples))])
