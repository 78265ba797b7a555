"""What a trained cell gave, as its record has it: quality from answers, costs from clocks and operation counts."""

from __future__ import annotations

from collections.abc import Sequence

from bench.data import metrics
from bench.data.splits import Splits
from bench.matrix.cell import Cell
from bench.methods.tuned_model import TunedModel
from bench.models.backbones import EMBEDDINGS
from bench.profiler import PhaseClock, StepClock
from bench.profiler.clock import quantiles
from bench.profiler.efficiency import efficiency
from bench.profiler.flops import Flops
from bench.records.record import Cost, Point, Quality
from bench.training.early_stopping import Selection
from bench.training.engine import Engine, World, size
from bench.training.evaluation import Outcomes
from bench.training.feature_cache import Features


def quality_of(cell: Cell, splits: Splits, found: Outcomes, selection: Selection, curve: Sequence[Point]) -> Quality:
    """`found`: the answers on test. `curve`: every evaluation on dev. `cell.steps` are those of the schedule."""
    names = cell.task.metrics
    scores = found.scores(names, splits.parts)
    return Quality(
        metric=cell.task.metric,
        dev=selection.dev,
        test=metrics.mean(scores),
        scores=scores,
        constant=found.constant(names, splits.parts),
        selected_step=selection.step,
        stopped_step=selection.last if selection.last < cell.steps else None,
        outcomes=found.bits,
        predicted=found.digits,
        curve=tuple(curve),
        examples={"train": len(splits.train), "dev": len(splits.dev), "test": len(splits.test)},
        sample=splits.sample,
        data=splits.data,
        origin=splits.origin,
    )


def cost_of(
    cell: Cell, world: World, engine: Engine, features: Features | None, phases: PhaseClock, steps: StepClock
) -> Cost:
    """A collective call: rates are of all ranks together, step times of the slowest."""
    tuned = engine.tuned
    operations = Flops(tuned, cell.regularizer).total(steps.batches, features.depth if features else EMBEDDINGS)
    share = steps.share(operations, cell.precision)
    mine = (steps.tokens, steps.samples, steps.window_seconds, steps.waited_seconds, steps.milliseconds(), share)
    tokens, samples, seconds, waited, milliseconds, shares = zip(*world.gather(mine), strict=True)
    window = max(seconds)
    trainable = list(engine.trainable.values())
    return Cost(
        steps=cell.steps,
        tokens_per_second=sum(tokens) / window if window else None,
        samples_per_second=sum(samples) / window if window else None,
        step_milliseconds=quantiles(max(milliseconds, key=sum)),
        measured_steps=len(milliseconds[0]),
        seconds={name: round(value, 3) for name, value in phases.seconds.items()},
        trainable_parameters=sum(map(size, trainable)),
        total_parameters=sum(map(size, tuned.parameters())),
        checkpoint_bytes=sum(size(p) * p.element_size() for p in trainable),
        forward_equivalents=None if cell.lower_dropout else _forward_equivalents(cell, tuned, features),
        data_wait_share=max(w / s for w, s in zip(waited, seconds, strict=True)) if window else None,
        feature_cache_bytes=features.bytes if features else None,
        feature_cache_built=features.built if features else None,
        **efficiency(shares, len(milliseconds[0]), window)._asdict(),
    )


def _forward_equivalents(cell: Cell, tuned: TunedModel, features: Features | None) -> float:
    """Forwards through the backbone that a step is worth. What all passes share may be read instead of computed."""
    layers = cell.backbone.layers
    computed = cell.regularizer.equivalents(layers, tuned.first_trainable_depth, _trained_share(tuned))
    return computed - (features.depth / layers if features else 0)


def _trained_share(tuned: TunedModel) -> float:
    """The share of the backbone's weights that train, counting what a method added to them."""
    sizes = [(size(p), p.requires_grad) for p in tuned.stack.parameters()]
    return sum(n for n, trains in sizes if trains) / sum(n for n, _ in sizes)
