"""Trains a built-in backbone: `python -m bench.models.toy toy-encoder FOLDER`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import transformers

from bench.models.checkpoints import CONTENT, SAFE, fingerprint
from bench.models.toy.models import KINDS
from bench.models.toy.scores import measure
from bench.models.toy.shipped import RECORD, Pretraining
from bench.models.toy.training import RECIPE, train

FIRST = 5  # steps whose losses are recorded


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.models.toy", description="Trains a built-in backbone.")
    parser.add_argument("name", choices=KINDS)
    parser.add_argument("folder", type=Path, help="where the checkpoint and pretraining.json go")
    parser.add_argument("--steps", type=int, help=f"stop after so many of the {RECIPE.steps} steps, to try it")
    given = parser.parse_args(arguments)
    write(given.name, given.folder, given.steps)


def write(name: str, folder: Path, steps: int | None = None) -> None:
    """Trains `name` and writes its checkpoint, in fp16, and the record of its training."""
    model, tokens, losses = train(name, steps, _show)
    model.half().save_pretrained(folder)
    tokens.save_pretrained(folder)
    (folder / SAFE[0]).chmod(0o644)  # it was written for its owner alone
    accuracy, held_out_loss = measure(name, folder)  # of what was written, after its rounding
    record = Pretraining(
        fingerprint=fingerprint(folder, CONTENT),
        recipe=asdict(RECIPE),
        losses=losses[:FIRST],
        accuracy=accuracy,
        held_out_loss=held_out_loss,
        versions={"torch": torch.__version__, "transformers": transformers.__version__},
    )
    (folder / RECORD).write_text(json.dumps(asdict(record), indent=1) + "\n", "utf-8")


def _show(step: int, steps: int) -> None:
    if step % 10 == 0 or step == steps:
        print(f"{step}/{steps}", flush=True)


if __name__ == "__main__":
    main()
