"""Run by the deepspeed launcher: `state`, `load` and `save` of an Engine on every stage. Arguments: checkpoint, out."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from tables import METHOD_TABLE

from bench import data
from bench.backbones import parse
from bench.cells import Cell
from bench.engine import LINEAR, Engine, World
from bench.fields import parse_zero
from bench.heads import HEADS
from bench.methods import METHODS
from bench.perturb import REGULARIZERS, View
from bench.prepare import prepare
from bench.tasks import TASKS, Regime

SOME = [{"kind": "full"}, {"kind": "prompt_tuning", "length": 3}, {"kind": "peft", "config": {"peft_type": "LORA"}}]
TABLE = {"zero0": SOME, "zero1": SOME, "zero2": SOME, "zero3": METHOD_TABLE}


def check(cell: Cell, world: World, out: Path) -> None:
    tuned, encodings = prepare(cell)
    engine = Engine(tuned, cell, world)
    batch = data.collate(encodings.train[:4], encodings.pad, range(4), world.device)

    def logits() -> torch.Tensor:
        with torch.no_grad(), engine.tuned.evaluating():
            return engine.tuned.logits(batch).clone()

    start = logits()
    engine.step([[View(batch)]])
    trained, state = logits(), engine.state()
    assert not torch.equal(start, trained)
    assert (world.rank == 0) == bool(state), "the state is on rank 0"
    engine.step([[View(batch)]])
    assert not torch.equal(logits(), trained)
    engine.load(state)
    assert torch.equal(logits(), trained), (cell.name, (logits() - trained).abs().max())
    file = out / "trainables.safetensors"
    engine.save(file)
    if world.rank == 0:
        saved = load_file(file)
        assert saved.keys() == engine.trainable.keys()
        assert all(torch.equal(saved[name], state[name]) and saved[name].numel() for name in saved)
    engine.close()
    assert torch.nn.functional.linear is LINEAR, "a ZeRO-3 engine leaves the process as it was"


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
                regularizer=REGULARIZERS["none"].model_validate({}),
                zero=parse_zero(stage, "zero", []),
                ranks=2,
                batch_size=8,
            )
            check(cell, world, out)
    if world.rank == 0:
        (out / "checked").write_text(" ".join(TABLE))
    world.leave()


if __name__ == "__main__":
    main()
