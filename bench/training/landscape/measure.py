"""The loss surfaces of a trained cell, measured by all its ranks together."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core.seeds import shuffled, stream_seed
from bench.data.batches import evenly
from bench.matrix.cell import Cell
from bench.matrix.landscape_settings import Landscape
from bench.models.stack import Batch
from bench.records.record import Surface, Surfaces
from bench.training.engine import Engine, World
from bench.training.landscape import embeddings, grid, weights
from bench.training.setup import Encodings

STEPS = 100  # in a radius: of the differences that give curvatures


def surfaces(settings: Landscape, cell: Cell, world: World, engine: Engine, encodings: Encodings) -> Surfaces:
    """Around the weights that are loaded, in eval mode. A collective call."""
    dev = encodings.dev
    seed = cell.seed_of("order")
    drawn = shuffled(list(range(len(dev))), seed, "landscape")[: settings.examples]  # dev may be sorted by class
    lengths = [len(dev[i].ids) for i in drawn]

    def batch(numbers: list[int]) -> Batch:
        ids = [drawn[number] for number in numbers]
        keys = [stream_seed(seed, f"landscape {i}") for i in ids]
        return encodings.batch(dev, ids, keys, world.device)

    with engine.tuned.evaluating():
        # a backward keeps no more examples than in training, if through all layers
        alike = [batch(numbers) for numbers in evenly(lengths, min(cell.micro, embeddings.ROWS), 0, 1)]
        around = _in_embeddings(settings, world, engine, alike)
        sliced = None
        if settings.weights and weights.has_filters(engine):
            size = min(-(-len(drawn) // world.size), embeddings.ROWS)
            own = [batch(numbers) for numbers in evenly(lengths, size, world.rank, world.size)]
            sliced = _in_weights(settings, world, engine, own, seed)
    return Surfaces(examples=len(drawn), embeddings=around, weights=sliced)


def _in_embeddings(settings: Landscape, world: World, engine: Engine, batches: list[Batch]) -> Surface:
    """Every rank makes all directions, and its share of the points."""
    points = grid.points(settings.radius, settings.grid)
    sums, hessian = torch.zeros(len(points), dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    slopes: list[Tensor] = []
    exact = engine.tuned.dtype == torch.float32  # in 16 bit most of a small step is lost to rounding
    for batch in batches:
        made = embeddings.plane(engine.tuned, batch)
        sums += embeddings.losses(engine.tuned, made, points, world.rank, world.size)
        if exact:
            hessian += embeddings.hessian(engine.tuned, made, settings.radius / STEPS)
        slopes.append(made.slopes.double())
    every = torch.cat(slopes)
    total = torch.stack(world.gather(sums)).sum(0) / len(every)
    return grid.surface(
        total.tolist(), settings.radius, every.mean().item(), hessian / len(every) if exact else hessian * torch.nan
    )


def _in_weights(settings: Landscape, world: World, engine: Engine, batches: list[Batch], seed: int) -> Surface:
    points = grid.points(settings.weights_radius, settings.grid)
    merged = world.merge(weights.losses(engine, batches, points, seed))
    mean = torch.tensor([merged[i] for i in sorted(merged)], dtype=torch.float64).mean(0)
    return grid.surface(mean.tolist(), settings.weights_radius)
