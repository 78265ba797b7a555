"""The floating-point operations of a training step, from shapes alone: a formula, nothing is run.

Counted are matrix products: those of linear maps, attention, convolutions and whatever a method brings, forwards, and
backwards to everything that a gradient goes to (bench.models.stack.operation_counter). Not counted: element-wise
work, softmax, norms, look-ups, the optimizer, the refreshing of attacks on words, and what a fused attention computes
again by itself. Causal attention counts in full, as it is computed without a kernel for it. All of a padded batch
counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.methods.tuned_model import TunedModel
from bench.models.backbones import EMBEDDINGS
from bench.models.forward_passes import ForwardPass
from bench.models.pass_cost import PassCost
from bench.models.stack import Batch, Flow
from bench.models.stack.family_flops import products
from bench.models.stack.flop_counting import Products
from bench.models.stack.operation_counter import OperationCounter, Operations
from bench.models.stack.peft_flops import Uncounted
from bench.regularizers import Regularizer


@dataclass(frozen=True)
class TextGradient:
    """An edit: from `depth` on the text itself gets a gradient."""

    depth: int

    def count(self, products: Products, depth: int, flow: Flow) -> Flow:
        return replace(flow, tracked=True) if depth == self.depth else flow


class Flops:
    """Of the batches that `tuned` is trained on with `regularizer`."""

    def __init__(self, tuned: TunedModel, regularizer: Regularizer):
        self.tuned = tuned
        self.walks = regularizer.walks(tuned.first_trainable_depth, shared=not tuned.lower_dropout)
        self.of = functools.cache(self._of)

    def total(self, batches: Mapping[tuple[int, int], int], given: int = EMBEDDINGS) -> Operations | None:
        """Of as many batches of each shape [B, T]; `given` as below."""
        found = {shape: self.of(*shape, given) for shape in batches}
        known = {shape: one for shape, one in found.items() if one is not None}
        if len(known) < len(found):
            return None
        return sum((one * batches[shape] for shape, one in known.items()), Operations())

    def _of(self, examples: int, tokens: int, given: int = EMBEDDINGS) -> Operations | None:
        """Of a batch [B, T]; None where a module has no formula.

        `given`: the depth up to which the states are there already; no higher than anything trains or is perturbed.
        """
        training = self.tuned.training
        self.tuned.train()
        try:
            made = [self._walk(walk, examples, tokens, given) for walk in self.walks]
        except Uncounted:
            return None
        finally:
            self.tuned.train(training)
        return sum(made, Operations())

    def _walk(self, walk: PassCost, examples: int, tokens: int, given: int) -> Operations:
        tuned, tally = self.tuned, OperationCounter(walk.weights)
        counted = products(tuned.stack, tally)
        start = max(walk.start, given)
        edits: list[Any] = [] if walk.text_from is None else [TextGradient(walk.text_from)]
        edits += tuned.edits
        flow = self._entering(start, Flow(examples * walk.views, tokens))
        if walk.stop is not None:
            with tally.unrecorded():
                _up_to(counted, flow, edits, start, walk.stop, self._reads_one)
        else:
            lowest = tuned.first_trainable_depth if walk.gradient_from is None else walk.gradient_from
            with tally.unrecorded():
                flow = _up_to(counted, flow, edits, start, lowest, self._reads_one)
            end = len(tuned.stack.layers)
            flow = _up_to(counted, flow, edits, max(start, lowest), end, self._reads_one)
            tuned.head.count(counted, flow)
        return tally.operations * walk.times

    def _entering(self, depth: int, flow: Flow) -> Flow:
        """The flow that enters `depth`, of which nothing is counted."""
        tally = OperationCounter()
        with tally.unrecorded():
            return _up_to(
                products(self.tuned.stack, tally), flow, list(self.tuned.edits), EMBEDDINGS, depth, self._reads_one
            )

    @functools.cached_property
    def _reads_one(self) -> bool:
        """Whether the head reads one position of each text."""
        ids = torch.zeros(1, 1, dtype=torch.int64, device=self.tuned.stack.word_embeddings.weight.device)
        some, zero = torch.ones_like(ids, dtype=torch.bool), ids[:, 0]
        batch = Batch(ids, some, some, ids, answer=zero, labels=zero, noise_seeds=zero, example_ids=zero)
        return self.tuned.head.position(self.tuned.stack, batch) is not None


def followed(passes: Iterable[ForwardPass], tell: Callable[[int, int], None]) -> Iterator[ForwardPass]:
    """`passes` of one batch; `tell` is told its [B, T] as it is shown, once."""
    for number, shown in enumerate(passes):
        if number == 0:
            tell(*shown.views[0].batch.ids.shape)
        yield shown


def _up_to(counted: Products, flow: Flow, edits: Sequence[Any], start: int, stop: int, one: bool) -> Flow:
    """From `start` to the stream entering `stop`, before the edits there; nothing where that is not above."""
    if stop > start == EMBEDDINGS:
        flow, start = counted.enter(flow, edits), 0
    return counted.walk(flow, edits, start, max(start, stop), one)
