"""The trained backbones that come with the package, and what is recorded of their training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parent / "weights"
RECORD = "pretraining.json"


@dataclass(frozen=True)
class Pretraining:
    """How a backbone was trained, and what it can do."""

    fingerprint: str  # of the files beside it, as of any checkpoint's folder; a matrix is read without hashing them
    recipe: dict[str, Any]
    losses: list[float]  # of the first steps
    accuracy: dict[str, float]  # on test examples of each natural task, without any training on it
    held_out_loss: float  # nats per predicted word, on sentences it was not trained on
    versions: dict[str, str]


def folder(name: str) -> Path:
    """The checkpoint of a built-in backbone."""
    return WEIGHTS / name


def pretraining(checkpoint: Path) -> Pretraining:
    return Pretraining(**json.loads((checkpoint / RECORD).read_text("utf-8")))
