"""One cell, from its backbone to its Record, run by every rank of a process group together."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import torch
from torch import Tensor

from bench import data, environment
from bench.cells import Cell
from bench.engine import Engine, World, size
from bench.perturb import View
from bench.prepare import Encodings, prepare
from bench.profiler import Ledger, PhaseClock, StepClock
from bench.profiler.clock import quantiles
from bench.records import Cost, Point, Quality, Record
from bench.seeds import stream_seed
from bench.templates import Encoded

EVALUATION_BATCH = 64  # examples per rank and forward
WARMUP_STEPS = 5  # not timed


class Diverged(Exception):
    """The loss was not a finite number."""

    def __init__(self, step: int):
        super().__init__(f"the loss of step {step} is not finite")
        self.step = step


@dataclass(frozen=True)
class Progress:
    """What a running cell tells: called by rank 0 as often as it evaluates, and at the start of each phase."""

    phase: str
    step: int
    steps: int


def run_cell(cell: Cell, world: World, clock: PhaseClock, tell: Any) -> Record | None:
    """Trains and measures `cell`; its Record on rank 0, None on the others. Whatever fails, raises.

    `tell` takes a Progress. `clock` knows which phase was running when something raised.
    """
    started = now()
    ledger = Ledger(world.device, world.rank, world.host)
    with clock.phase("load"):
        tell(Progress("load", 0, cell.steps))
        tuned, encodings = prepare(cell)
    with clock.phase("setup"):
        engine = Engine(tuned, cell, world)
    try:
        run = _Run(cell, world, engine, encodings, clock, ledger, tell)
        run.train()
        quality = run.quality()
        cost = run.cost()
        memory = tuple(row for rows in world.gather(ledger.rows) for row in rows)
        hosts = world.gather(world.host)
    finally:
        engine.close()
    if world.rank != 0:
        return None
    return Record(
        name=cell.name,
        cell=cell.content(),
        labels=cell.labels(),
        status="ok",
        quality=quality,
        cost=cost,
        memory=memory,
        environment=environment.describe(hosts, accelerator(world), torch.get_num_threads(), "deepspeed"),
        started=started,
        finished=now(),
    )


class _Run:
    """The loop of one cell and what it measures on the way."""

    def __init__(
        self,
        cell: Cell,
        world: World,
        engine: Engine,
        encodings: Encodings,
        clock: PhaseClock,
        ledger: Ledger,
        tell: Any,
    ):
        self.cell, self.world, self.engine, self.encodings = cell, world, engine, encodings
        self.clock, self.ledger, self.tell = clock, ledger, tell
        self.steps = StepClock(world.device, min(WARMUP_STEPS, cell.steps // 3))
        self.losses: list[Tensor] = []  # since the last evaluation, on the device
        self.curve: list[Point] = []
        self.followed = 0  # the step whose memory is measured
        self.best: tuple[float, int, dict[str, Tensor]] | None = None

    def train(self) -> None:
        cell = self.cell
        torch.manual_seed(stream_seed(cell.seed, f"dropout {self.world.rank}"))
        every = cell.evaluate_every or max(1, cell.steps // 10)
        lengths = [len(example.ids) for example in self.encodings.train]
        batches = list(data.training_batches(lengths, cell.batch_size, cell.steps, cell.seed))
        self.followed = heaviest(batches, lengths)
        self.tell(Progress("train", 0, cell.steps))
        with self.clock.phase("train"):
            self.engine.train()
            for step, ids in enumerate(batches):
                self._step(step, ids)
                if (step + 1) % every == 0 or step + 1 == cell.steps:
                    self.steps.pause()
                    self._evaluate_on_dev(step + 1)
                    self.engine.train()

    def _step(self, step: int, ids: list[int]) -> None:
        cell, world = self.cell, self.world
        shares = data.share(ids, world.rank, world.size, cell.micro)
        tokens = sum(len(self.encodings.train[i].ids) for share in shares for i in share)

        def work() -> None:
            self.losses.append(self.engine.step(self._views(step, share) for share in shares))

        if step != self.followed:
            with self.steps.step(tokens, sum(map(len, shares))):
                work()
            return
        self.steps.pause()  # this step is not timed: on a CPU every tensor is followed
        with self._followed("train"):
            work()

    def _followed(self, phase: str) -> AbstractContextManager[None]:
        kept = self.best[2].values() if self.best is not None else ()
        return self.ledger.phase(phase, self.engine.tuned, self.engine.optimizer, kept)

    def _views(self, step: int, ids: list[int]) -> list[View]:
        """The clean view of a micro-batch and the regularizer's."""
        examples = [self.encodings.train[i] for i in ids]
        keys = [stream_seed(self.cell.seed, f"noise {step} {i}") for i in ids]
        batch = data.collate(examples, self.encodings.pad, keys, self.world.device)
        return self.cell.regularizer.views(self.engine.tuned, batch)

    def _evaluate_on_dev(self, step: int) -> None:
        losses = self.world.mean(torch.stack(self.losses)).tolist()
        first = step - len(losses) + 1
        self.losses.clear()
        bad = next((first + i for i, loss in enumerate(losses) if loss != loss or abs(loss) == float("inf")), None)
        if bad is not None:
            raise Diverged(bad)
        with self.clock.phase("evaluate"):
            dev = share_right(self._outcomes(self.encodings.dev))
        self.curve.append(Point(step=step, train_loss=sum(losses) / len(losses), dev=dev))
        self.tell(Progress("train", step, self.cell.steps))
        if self.cell.select == "best_dev" and (self.best is None or dev > self.best[0]):
            self.best = (dev, step, self.engine.state())

    def quality(self) -> Quality:
        """On test with the selected weights."""
        self.tell(Progress("evaluate", self.cell.steps, self.cell.steps))
        dev, step = self.curve[-1].dev, self.cell.steps
        with self.clock.phase("evaluate"):
            if self.best is not None:
                dev, step, state = self.best
                if step != self.cell.steps:
                    self.engine.load(state)
            outcomes = self._outcomes(self.encodings.test, measured=True)
        splits = self.encodings.splits
        return Quality(
            metric=self.cell.task.metric,
            dev=dev,
            test=share_right(outcomes),
            selected_step=step,
            outcomes=outcomes,
            curve=tuple(self.curve),
            examples={"train": len(splits.train), "dev": len(splits.dev), "test": len(splits.test)},
            sample=splits.sample,
            data=splits.data,
        )

    @torch.no_grad()
    def _outcomes(self, examples: list[Encoded], measured: bool = False) -> str:
        """One character per example: 1 right, 0 wrong. Every rank makes the same number of passes."""
        world, tuned = self.world, self.engine.tuned
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].ids))
        passes = [order[i : i + EVALUATION_BATCH] for i in range(0, len(order), EVALUATION_BATCH)]
        mine = passes[world.rank :: world.size]
        right: dict[int, bool] = {}
        with tuned.evaluating():
            for n in range(-(-len(passes) // world.size)):
                ids = mine[n] if n < len(mine) else passes[0]  # ZeRO-3 needs all ranks in each forward
                batch = data.collate([examples[i] for i in ids], self.encodings.pad, ids, world.device)
                if measured and n == 0:
                    with self._followed("evaluate"):
                        predicted = tuned.head.scores(tuned.logits(batch)).argmax(1)
                else:
                    predicted = tuned.head.scores(tuned.logits(batch)).argmax(1)
                right.update(zip(ids, (predicted == batch.labels).tolist(), strict=True))
        merged: dict[int, bool] = {}
        for part in world.gather(right):
            merged.update(part)
        return "".join("1" if merged[i] else "0" for i in range(len(examples)))

    def cost(self) -> Cost:
        mine = (self.steps.tokens, self.steps.samples, self.steps.window_seconds, self.steps.milliseconds())
        tokens, samples, seconds, milliseconds = zip(*self.world.gather(mine), strict=True)
        window = max(seconds)
        parameters = list(self.engine.tuned.parameters())
        trainable = list(self.engine.trainable.values())
        return Cost(
            tokens_per_second=sum(tokens) / window if window else None,
            samples_per_second=sum(samples) / window if window else None,
            step_milliseconds=quantiles(max(milliseconds, key=sum)),
            measured_steps=len(milliseconds[0]),
            seconds={name: round(value, 3) for name, value in self.clock.seconds.items()},
            trainable_parameters=sum(map(size, trainable)),
            total_parameters=sum(map(size, parameters)),
            checkpoint_bytes=sum(size(p) * p.element_size() for p in trainable),
        )


def heaviest(batches: list[list[int]], lengths: list[int]) -> int:
    """The step with the longest example; not the first, in which the optimizer makes its state, if there is another."""
    steps = range(len(batches))[1:] or range(1)
    return max(steps, key=lambda step: max(lengths[i] for i in batches[step]))


def share_right(outcomes: str) -> float:
    return outcomes.count("1") / len(outcomes)


def accelerator(world: World) -> str:
    if world.device.type == "cuda":
        return torch.cuda.get_device_name(world.device)
    return world.device.type


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
