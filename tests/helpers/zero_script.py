"""Called on warm ranks by test_stages.py: `state`, `load` and `save` of an Engine, and what a landscape does with them;
steps at two learning rates; whether gloo keeps what is followed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tables import TWO_RATES

from bench.data.batches import collate
from bench.data.tasks import TASKS, Regime
from bench.matrix.cell import Cell, changed, rebuild
from bench.matrix.field_parsers import parse_zero
from bench.methods import METHODS
from bench.models.backbones import parse
from bench.models.forward_passes import BatchView, ForwardPass
from bench.models.heads import HEADS
from bench.models.stack import Batch
from bench.profiler import PhaseClock
from bench.profiler.live_tensors import LiveTensors
from bench.regularizers.none import NoRegularizer
from bench.training.engine import LINEAR, Engine, World
from bench.training.engine.engine import factor
from bench.training.landscape import embeddings, grid, weights
from bench.training.setup import prepare
from bench.training.train import Diverged, run_cell
from bench.training.worker import describe, status_of


def cell_of(checkpoint: str, stage: str, settings: dict) -> Cell:
    method = METHODS[settings["kind"]].model_validate(settings)
    return Cell.model_construct(
        backbone=parse({"path": checkpoint}, "backbone", []),
        task=TASKS["toy-foreign-0"],
        regime=Regime(per_class=4),
        method=method,
        head=HEADS[method.heads[0]](),
        regularizer=NoRegularizer(),
        zero=parse_zero(stage, "zero", []),
        ranks=2,
        batch_size=8,
    )


def check(world: World, checkpoint: str, out: str, stage: str, methods: list[dict], sliced: bool) -> None:
    """Each method under one stage; `sliced`: also around what was trained."""
    for settings in methods:
        check_engine(cell_of(checkpoint, stage, settings), world, Path(out), sliced)


def check_engine(cell: Cell, world: World, out: Path, sliced: bool) -> None:
    tuned, encodings = prepare(cell)
    engine = Engine(tuned, cell, world)
    batch = collate(encodings.train[:4], encodings.vocabulary.pad, range(4), range(4), world.device)

    def logits() -> torch.Tensor:
        with torch.no_grad(), engine.tuned.evaluating():
            return engine.tuned.logits(batch).clone()

    start = logits()
    engine.step([ForwardPass((BatchView(batch),))])
    trained, state = logits(), engine.state()
    assert not torch.equal(start, trained)
    assert (world.rank == 0) == bool(state), "the state is on rank 0"
    engine.step([ForwardPass((BatchView(batch),))])
    assert not torch.equal(logits(), trained)
    engine.load(state)
    assert torch.equal(logits(), trained), (cell.name, (logits() - trained).abs().max())
    if sliced:
        check_slice(engine, batch, trained, logits)
    file = out / "trainables.safetensors"
    engine.save(file)
    if world.rank == 0:
        saved = load_file(file)
        assert saved.keys() == engine.trainable.keys()
        assert all(torch.equal(saved[name], state[name]) and saved[name].numel() for name in saved)
    engine.close()
    assert torch.nn.functional.linear is LINEAR, "a ZeRO-3 engine leaves the process as it was"


def check_slice(engine: Engine, batch: Batch, trained: torch.Tensor, logits: Callable[[], torch.Tensor]) -> None:
    """The trained loss in the middle of the plane, and afterwards the trained weights, bit for bit."""
    points, clean = grid.points(1.0, 3), engine.tuned.loss(trained, batch, reduction="none").double()
    with engine.tuned.evaluating():
        plane = embeddings.plane(engine.tuned, batch)
        around = embeddings.at(engine.tuned, plane, points)
        assert torch.allclose(around[4], clean, atol=1e-5), (around[4], clean)
        assert plane.slopes.min() > 0 and not torch.allclose(around[0], clean, atol=1e-5)
        if weights.has_filters(engine):
            found = torch.tensor(list(weights.losses(engine, [batch], points, 0).values())).double()
            assert torch.allclose(found[:, 4], clean, atol=1e-5), (found[:, 4], clean)
            assert not torch.equal(found[:, 0], found[:, 4]), f"{engine.trainable.keys()}: the weights did not move"
    assert torch.equal(logits(), trained)


def check_rates(world: World, checkpoint: str, stage: str) -> None:
    """Steps are those of plain PyTorch, with a rate for what the backbone had and one for the rest."""
    smooth = {**TWO_RATES, "recipe": {**TWO_RATES["recipe"], "epsilon": 1e-3}}  # rounding is not blown up to a step
    cell = cell_of(checkpoint, stage, smooth)
    recipe = cell.method.recipe
    tuned, encodings = prepare(changed(cell, zero=parse_zero("zero0", "zero", [])))
    trainable = tuned.train().trainable()
    backbone = {name for name in trainable if name.startswith("stack.")}
    vectors = {name for name, parameter in trainable.items() if max(parameter.shape) == parameter.numel()}
    assert backbone and vectors and len(backbone) < len(trainable)
    groups = [
        {
            "params": [parameter],
            "lr": recipe.backbone_learning_rate if name in backbone else recipe.learning_rate,
            "weight_decay": 0.0 if name in vectors else recipe.weight_decay,
        }
        for name, parameter in trainable.items()
    ]
    optimizer = torch.optim.AdamW(groups, eps=recipe.epsilon)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(recipe, step, cell.steps))
    start = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    engine = Engine(prepare(cell)[0], cell, world)
    engine.train()
    batch = collate(encodings.train[:4], encodings.vocabulary.pad, range(4), range(4), world.device)
    for _ in range(3):
        engine.step([ForwardPass((BatchView(batch),))])
        tuned(ForwardPass((BatchView(batch),)))[0].backward()
        torch.nn.utils.clip_grad_norm_(trainable.values(), recipe.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    rates = {name: recipe.rate(name in backbone) for name in trainable}
    for name, found in engine.state().items():
        off = (found - trainable[name].detach()).abs().max() / rates[name]
        assert off < 1e-3, (cell.zero.name, name, off)
    for part in (backbone, trainable.keys() - backbone):
        moved = max(((trainable[name].detach() - start[name]).abs().max() / rates[name]).item() for name in part)
        assert 0.5 < moved < 4, (cell.zero.name, moved, "three steps of the rate, about")
    engine.close()


def check_gloo(world: World) -> None:
    """Nothing that was sent lives longer than its references; what gloo's threads would keep is chance."""
    with LiveTensors(world.device) as tracker:
        for _ in range(500):
            sent = torch.ones(100_000)
            torch.distributed.all_reduce(sent)
            del sent
            assert tracker.current == 0
    assert tracker.peak == 400_000
    with LiveTensors(world.device):  # what is written is what was given
        mine = torch.arange(float(world.size))
        torch.distributed.reduce_scatter(mine[world.rank].view(1), list(mine.clone().split(1)))
    expected = torch.arange(float(world.size))
    expected[world.rank] *= world.size
    assert torch.equal(mine, expected), (mine, expected)


def diverges(world: World, content: dict[str, Any]) -> dict[str, Any]:
    """What a worker would say of a cell that diverges."""
    clock = PhaseClock()
    try:
        run_cell(rebuild(content), world, clock, lambda progress: None)
    except Diverged as error:
        return {"status": status_of(error), "step": describe(error, clock.current, world).step}
    return {"status": "ok"}
