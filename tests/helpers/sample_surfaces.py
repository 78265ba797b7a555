"""Records of cells whose loss surfaces were measured."""

from __future__ import annotations

from sample_records import record

from bench.matrix.landscape_settings import Landscape
from bench.records.record import Record, Surfaces
from bench.training.landscape import grid


def surfaces(height: float, weights: bool = True, size: int = 5) -> Surfaces:
    """Loss surfaces that rise by `height` along the first direction."""
    losses = [1 + height * (a * a + b) for a, b in grid.points(2.0, size).tolist()]
    made = grid.surface(losses, 2.0)
    return Surfaces(examples=8, embeddings=made, weights=made if weights else None)


def measured(name: str, height: float = 0.5, weights: bool = True, **changes) -> Record:
    """A finished record with a landscape."""
    made = record(name, landscape=surfaces(height, weights), **{"regularizer": "none", **changes})
    return made.model_copy(update={"cell": {**made.cell, "landscape": Landscape(radius=2, grid=5).model_dump()}})
