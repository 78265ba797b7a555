"""One cell, from its backbone to its Record, run by every rank of a process group together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.cluster.heartbeat import pulse
from bench.core.seeds import stream_seed
from bench.data import batches, metrics
from bench.data.templates import Encoded
from bench.matrix.cell import Cell
from bench.models.forward_passes import ForwardPass
from bench.profiler import Ledger, PhaseClock, StepClock
from bench.profiler.flops import followed
from bench.records import environment
from bench.records.record import Point, Record, Surfaces
from bench.records.store import now
from bench.regularizers.perturbers import Rewriting, Run, perturber_of
from bench.training.early_stopping import Selection
from bench.training.engine import Engine, World
from bench.training.evaluation import Outcomes, outcomes
from bench.training.feature_cache import Features, open_features
from bench.training.landscape import measure
from bench.training.loader import Ahead, Loader, Request, evenly
from bench.training.results import cost_of, quality_of
from bench.training.setup import Encodings, prepare

WARMUP_STEPS = 5  # not timed


class Diverged(Exception):
    """The loss was not a finite number."""

    def __init__(self, step: int):
        super().__init__(f"the loss of step {step} is not finite")
        self.step = step


@dataclass(frozen=True)
class Progress:
    """What a running cell tells, on every rank: at the start of each phase, and as often as it evaluates."""

    phase: str
    step: int
    steps: int


def run_cell(cell: Cell, world: World, clock: PhaseClock, report_progress: Callable[[Progress], None]) -> Record | None:
    """Trains and measures `cell`; its Record on rank 0, None on the others. Whatever fails, raises.

    `clock` knows which phase was running when something raised.
    """
    started = now()
    ledger = Ledger(world.device, world.rank, world.host)
    with ledger.setup() as made:
        with clock.phase("load"):
            report_progress(Progress("load", 0, 0))  # how many steps epochs are is known when the data is read
            tuned, encodings = prepare(cell, world.device)
        planned = cell.resolved(len(encodings.train))
        with clock.phase("setup"):
            engine = Engine(tuned, planned, world)
        made += [engine.tuned, engine.optimizer]
    try:
        features = None
        if cell.feature_cache:
            report_progress(Progress("cache", 0, planned.steps))
            with clock.phase("cache"):
                features = open_features(cell, engine.tuned, encodings, world)
        run = _Run(planned, world, engine, encodings, features, clock, ledger, report_progress)
        run.train()
        found = run.test()
        quality = None if cell.cost_only else quality_of(planned, encodings.splits, found, run.selection, run.curve)
        landscape = run.landscape()
        cost = cost_of(planned, world, engine, features, clock, run.steps)
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
        landscape=landscape,
        environment=environment.describe(
            hosts, accelerator(world), torch.get_num_threads(), "deepspeed", run.perturber.form
        ),
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
        features: Features | None,
        clock: PhaseClock,
        ledger: Ledger,
        report_progress: Callable[[Progress], None],
    ):
        self.cell, self.world, self.engine, self.encodings = cell, world, engine, encodings
        self.features, self.loader = features, Loader(encodings, world.device, features)
        self.clock, self.ledger, self.report_progress = clock, ledger, report_progress
        self.selection = Selection(cell.select == "best_dev", cell.patience)
        self.every = int(cell.evaluate_every or cell.steps)
        self.certain = self.selection.certain(cell.steps, self.every)
        self.steps = StepClock(world.device, min(WARMUP_STEPS, self.certain // 3))
        self.losses: list[Tensor] = []  # since the last evaluation, on the device
        self.curve: list[Point] = []
        self.followed = 0  # the step whose memory is measured
        texts = [example.texts for example in encodings.splits.train]
        run = Run(engine.tuned, encodings.vocabulary, cell.kernels, cell.max_length, encodings.templater, texts)
        self.perturber = perturber_of(cell.regularizer, run)

    def train(self) -> None:
        cell = self.cell
        torch.manual_seed(stream_seed(cell.seed_of("order"), f"dropout {self.world.rank}"))
        lengths = [len(example.ids) for example in self.encodings.train]
        drawn = list(batches.training_batches(lengths, cell.batch_size, cell.steps, cell.seed_of("order")))
        self.followed = batches.heaviest(drawn[: self.certain], lengths)
        epochs = [step * cell.batch_size // len(lengths) for step in range(-1, cell.steps)]
        self.report_progress(Progress("train", 0, cell.steps))
        shares = [batches.share(ids, self.world.rank, self.world.size, cell.micro) for ids in drawn]
        with self.clock.phase("train"), self.loader.ahead(self._requests(shares)) as loaded:
            self.engine.train()
            for step, own in enumerate(shares):
                if cell.regularizer.refreshes and epochs[step] < epochs[step + 1]:
                    self._refresh()
                self._step(step, own, loaded)
                if (step + 1) % self.every == 0 or step + 1 == cell.steps:
                    self.steps.pause()
                    self._evaluate_on_dev(step + 1)
                    if self.selection.over:
                        break
                    self.engine.train()

    def _requests(self, steps: list[list[list[int]]]) -> Iterator[Request]:
        """This rank's micro-batches of every step."""
        for step, shares in enumerate(steps):
            for ids in shares:
                keys = [stream_seed(self.cell.seed_of("order"), f"noise {step} {i}") for i in ids]
                yield Request(self.encodings.train, ids, keys)

    def _step(self, step: int, shares: list[list[int]], loaded: Ahead) -> None:
        pulse.report(step=step + 1)
        tokens = sum(len(self.encodings.train[i].ids) for share in shares for i in share)

        def work() -> None:
            self.losses.append(self.engine.step(shown for _ in shares for shown in self._passes(loaded)))

        if step != self.followed:
            with self.steps.step(tokens, sum(map(len, shares))):
                work()
            return
        self.steps.pause()  # this step is not timed: on a CPU every tensor is followed
        loaded.settle()  # so that the batches that wait are the same ones each time
        with self._followed("train", loaded.states):
            work()

    def _followed(self, phase: str, cached: Iterable[Tensor] = ()) -> AbstractContextManager[Any]:
        kept = self.selection.state.values()
        return self.ledger.step(phase, self.engine.tuned, self.engine.optimizer, kept, cached)

    def _passes(self, loaded: Ahead) -> Iterator[ForwardPass]:
        """What the next micro-batch is trained on."""
        with self.steps.waiting():
            one = next(loaded)
        yield from followed(self.perturber.passes(one.batch, one.cached_prefix), self.steps.count)

    def _refresh(self) -> None:
        """Has every training example perturbed again; the ranks share the work."""
        assert isinstance(self.perturber, Rewriting)
        self.steps.pause()
        with self.clock.phase("attack"):
            self.perturber.begin()
            made: dict[int, Encoded] = {}
            with self.loader.ahead(evenly(self.encodings.train, self.world)) as loaded:
                for one in loaded:
                    made |= self.perturber.rewrite(one.batch)
            self.perturber.keep(self.world.merge(made))

    def _evaluate_on_dev(self, step: int) -> None:
        losses = self.world.mean(torch.stack(self.losses)).tolist()
        first = step - len(losses) + 1
        self.losses.clear()
        bad = next((first + i for i, loss in enumerate(losses) if loss != loss or abs(loss) == float("inf")), None)
        if bad is not None:
            raise Diverged(bad)
        self.report_progress(Progress("train", step, self.cell.steps))
        if self.cell.cost_only:
            return
        with self.clock.phase("evaluate"):
            dev = metrics.mean(self._outcomes(self.encodings.dev).scores(self.cell.task.metrics))
        self.curve.append(Point(step=step, train_loss=sum(losses) / len(losses), dev=dev))
        if self.selection.takes(step, dev):
            with self.clock.phase("save"):
                self.selection.state = self.engine.state()

    def test(self) -> Outcomes:
        """The answers on test of the selected weights; random ones are asked, too, for what it costs."""
        self.report_progress(Progress("evaluate", self.cell.steps, self.cell.steps))
        with self.clock.phase("evaluate"):
            if self.selection.step != self.selection.last:
                self.engine.load(self.selection.state)
            return self._outcomes(self.encodings.test, self._followed("evaluate"))

    def _outcomes(self, examples: list[Encoded], followed: AbstractContextManager[None] | None = None) -> Outcomes:
        return outcomes(self.engine.tuned, examples, self.loader, self.world, followed)

    def landscape(self) -> Surfaces | None:
        """Around the selected weights, which `test` has loaded."""
        if self.cell.landscape is None:
            return None
        self.report_progress(Progress("landscape", self.cell.steps, self.cell.steps))
        with self.clock.phase("landscape"):
            return measure.surfaces(self.cell.landscape, self.cell, self.world, self.engine, self.encodings)


def accelerator(world: World) -> str:
    if world.device.type == "cuda":
        return torch.cuda.get_device_name(world.device)
    return world.device.type
