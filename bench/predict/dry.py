"""One dry step: the real model and the real ZeRO engine on ranks that are not there, without computing anything."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bench.batches import EVALUATION_BATCH
from bench.cells import Cell
from bench.engine import Engine, World
from bench.perturb import Rewriting, Run
from bench.predict.hollow import Hollow
from bench.predict.timeline import Moment, Timeline
from bench.prepare import Encodings, prepare
from bench.profiler import Ledger
from bench.views import Pass

UNMEASURED = 1  # steps: the optimizer makes its state, and ZeRO-3 learns what follows what


@dataclass(frozen=True)
class Dry:
    """The moments of each phase. `doubled`: of a training step with twice the examples in each pass."""

    setup: list[Moment]
    train: list[Moment]
    doubled: list[Moment]
    evaluate: list[Moment]


def run(cell: Cell, world: World) -> Dry:
    """What rank 0 of `world` needs for `cell`, whose examples are all `max_length` tokens long."""
    ledger = Ledger(world.device, world.rank, world.host, Timeline)
    with Hollow():
        with ledger.setup() as made:
            tuned, encodings = prepare(cell, world.device)
            engine = Engine(tuned, cell, world)
            made += [engine.tuned, engine.optimizer]
        try:
            return _steps(cell, engine, encodings, ledger)
        finally:
            engine.close()
            del engine, tuned, made
            gc.collect()


def _steps(cell: Cell, engine: Engine, encodings: Encodings, ledger: Ledger) -> Dry:
    engine.train()
    for _ in range(UNMEASURED):
        engine.step(_passes(cell, engine, encodings, cell.micro))
    for examples in (cell.micro, 2 * cell.micro):
        passes = _passes(cell, engine, encodings, examples)
        with ledger.step("train", engine.tuned, engine.optimizer):
            engine.step(passes)
    with engine.tuned.evaluating(), torch.no_grad():
        rows = list(range(min(EVALUATION_BATCH, len(encodings.test))))
        batch = encodings.batch(encodings.test, rows, rows, ledger.device)
        with ledger.step("evaluate", engine.tuned, engine.optimizer):
            engine.tuned.head.scores(engine.tuned.logits(batch)).argmax(1)
    return Dry(*[tracker.moments for tracker in ledger.trackers if isinstance(tracker, Timeline)])


def _passes(cell: Cell, engine: Engine, encodings: Encodings, examples: int) -> Iterator[Pass]:
    """Of every micro-batch of one step."""
    run = Run(engine.tuned, encodings.vocabulary, "reference", cell.max_length)
    perturber = cell.regularizer.on(run)
    for _ in range(cell.accumulation):
        rows = [i % len(encodings.train) for i in range(examples)]
        batch = encodings.batch(encodings.train, rows, rows, engine.world.device)
        if isinstance(perturber, Rewriting):
            perturber.keep(dict.fromkeys(rows, encodings.train[0]))
        yield from perturber.passes(batch)
