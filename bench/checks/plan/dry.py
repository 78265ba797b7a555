"""One dry step: the real model and the real ZeRO engine on ranks that are not there, without computing anything."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.checks.plan.fake_execution import Hollow
from bench.checks.plan.timeline import Moment, Timeline
from bench.data.batches import EVALUATION_BATCH
from bench.data.templates import Encoded
from bench.matrix.cell import Cell, changed
from bench.methods.tuned_model import TunedModel
from bench.models.forward_passes import ForwardPass
from bench.models.stack import Batch, CachedPrefix, Stream
from bench.profiler import Ledger
from bench.regularizers.perturbers import Rewriting, Run, perturber_of
from bench.training.engine import Engine, World, restore
from bench.training.feature_cache.cache import common_depth
from bench.training.loader import Loaded
from bench.training.setup import Encodings, draw, prepare

UNMEASURED = 1  # steps: the optimizer makes its state, and ZeRO-3 learns what follows what


@dataclass(frozen=True)
class Dry:
    """The moments of each phase. `doubled`: of a training step with twice the examples in each pass."""

    setup: list[Moment]
    train: list[Moment]
    doubled: list[Moment]
    evaluate: list[Moment]


def run(cell: Cell, world: World, test_tokens: int) -> Dry:
    """What rank 0 of `world` needs for `cell`, which trains on examples of `max_length` tokens each."""
    ledger = Ledger(world.device, world.rank, world.host, Timeline)
    with Hollow():
        try:
            with ledger.setup() as made:
                tuned, encodings = prepare(cell, world.device)
                engine = Engine(tuned, cell, world)
                made += [engine.tuned, engine.optimizer]
        except Exception:
            restore()
            raise
        tests = draw(changed(cell, max_length=test_tokens), tuned.stack, EVALUATION_BATCH).test
        try:
            return _steps(cell, engine, encodings, tests, ledger)
        finally:
            engine.close()
            del engine, tuned, made
            gc.collect()


def _steps(cell: Cell, engine: Engine, encodings: Encodings, tests: list[Encoded], ledger: Ledger) -> Dry:
    tuned, optimizer, device = engine.tuned, engine.optimizer, engine.world.device

    def loaded(examples: list[Encoded], count: int) -> Loaded:
        rows = [i % len(examples) for i in range(count)]
        batch = encodings.batch(examples, rows, rows, device)
        return Loaded(batch, _cached(cell, tuned, batch))

    engine.train()
    for examples, measured in ((cell.micro, False),) * UNMEASURED + ((cell.micro, True), (2 * cell.micro, True)):
        batches = [loaded(encodings.train, examples) for _ in range(cell.accumulation)]
        with ledger.step("train", tuned, optimizer, (), _states(batches)) if measured else nullcontext():
            engine.step(_passes(cell, tuned, encodings, batches))
    with tuned.evaluating(), torch.no_grad():
        batch = loaded(tests, len(tests))
        with ledger.step("evaluate", tuned, optimizer, (), _states([batch])):
            tuned.head.scores(tuned.logits(batch.batch, below=batch.cached_prefix)).argmax(1)
    return Dry(*[tracker.moments for tracker in ledger.trackers if isinstance(tracker, Timeline)])


def _passes(cell: Cell, tuned: TunedModel, encodings: Encodings, batches: list[Loaded]) -> Iterator[ForwardPass]:
    """Of every micro-batch of one step."""
    perturber = perturber_of(cell.regularizer, Run(tuned, encodings.vocabulary, "reference", cell.max_length))
    for batch, below, _ in batches:
        if isinstance(perturber, Rewriting):
            perturber.keep(dict.fromkeys(batch.example_ids.tolist(), encodings.train[0]))
        yield from perturber.passes(batch, below)


def _states(batches: list[Loaded]) -> list[Tensor]:
    return [one.cached_prefix.stream.states for one in batches if one.cached_prefix is not None]


def _cached(cell: Cell, tuned: TunedModel, batch: Batch) -> CachedPrefix | None:
    """What the feature cache would give of `batch`."""
    depth = common_depth(cell, tuned)
    if not cell.feature_cache or depth <= 0:
        return None
    whole = depth < len(tuned.stack.layers) or tuned.head.position(tuned.stack, batch) is None
    mask = batch.text_mask if whole else batch.text_mask[:, :1]
    states = torch.empty(*mask.shape, tuned.stack.hidden, dtype=tuned.dtype, device=batch.ids.device)
    return CachedPrefix(depth, Stream(states, mask))
