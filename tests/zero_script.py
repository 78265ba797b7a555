"""Run by the deepspeed launcher: `state`, `load` and `save` of an Engine on every stage, and what a landscape does with
them. Arguments: checkpoint, out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from tables import METHOD_TABLE

from bench.backbones import parse
from bench.batches import collate
from bench.cells import Cell
from bench.engine import LINEAR, Engine, World
from bench.fields import parse_zero
from bench.heads import HEADS
from bench.landscape import embeddings, grid, weights
from bench.methods import METHODS
from bench.perturb.none import NoRegularizer
from bench.prepare import prepare
from bench.stack import Batch
from bench.tasks import TASKS, Regime
from bench.views import Pass, View

SOME = [
    {"kind": "full"},
    {"kind": "prompt_tuning", "length": 3},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}},
]
TABLE = {"zero0": SOME, "zero1": SOME, "zero2": SOME, "zero3": METHOD_TABLE}


def check(cell: Cell, world: World, out: Path, sliced: bool) -> None:
    tuned, encodings = prepare(cell)
    engine = Engine(tuned, cell, world)
    batch = collate(encodings.train[:4], encodings.vocabulary.pad, range(4), range(4), world.device)

    def logits() -> torch.Tensor:
        with torch.no_grad(), engine.tuned.evaluating():
            return engine.tuned.logits(batch).clone()

    start = logits()
    engine.step([Pass((View(batch),))])
    trained, state = logits(), engine.state()
    assert not torch.equal(start, trained)
    assert (world.rank == 0) == bool(state), "the state is on rank 0"
    engine.step([Pass((View(batch),))])
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


def main() -> None:
    checkpoint, out = Path(sys.argv[-2]), Path(sys.argv[-1])
    world = World.join()
    for stage, methods in TABLE.items():
        for settings in methods:
            method = METHODS[settings["kind"]].model_validate(settings)
            cell = Cell.model_construct(
                backbone=parse({"path": str(checkpoint)}, "backbone", []),
                task=TASKS["toy-foreign-0"],
                regime=Regime(per_class=4),
                method=method,
                head=HEADS[method.heads[0]](),
                regularizer=NoRegularizer(),
                zero=parse_zero(stage, "zero", []),
                ranks=2,
                batch_size=8,
            )
            check(cell, world, out, sliced=settings in SOME)
    if world.rank == 0:
        (out / "checked").write_text(" ".join(TABLE))
    world.leave()


if __name__ == "__main__":
    main()
