"""A slice through the loss in weight space, after Li et al. 2018 (arXiv 1712.09913).

Two random directions over the trained tensors, each filter as long as the trained one. A filter is a row of a matrix:
a prompt's vector, a neuron's weights. Vectors stay as they are, as there biases and norms do. Their directions are
those of a whole network; under a method that trains little, the slice shows what it trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from bench.cluster.heartbeat import pulse
from bench.core.seeds import stream_seed
from bench.models.stack import Batch
from bench.training.engine import Engine


class Slice(Mapping[str, Tensor]):
    """The trained tensors moved by (a, b) along two directions; each is made when it is asked for."""

    def __init__(self, trained: dict[str, Tensor], directions: dict[str, tuple[Tensor, Tensor]], a: float, b: float):
        self.trained, self.directions, self.a, self.b = trained, directions, a, b

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.directions:
            return self.trained[name]
        first, second = self.directions[name]
        return self.trained[name].float() + self.a * first + self.b * second

    def __iter__(self) -> Iterator[str]:
        return iter(self.trained)

    def __len__(self) -> int:
        return len(self.trained)


def directions(trained: Mapping[str, Tensor], seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each tensor with filters, two of its shape; float32."""

    def draw(name: str, tensor: Tensor, which: str) -> Tensor:
        generator = torch.Generator().manual_seed(stream_seed(seed, f"landscape {name} {which}"))
        drawn, rows = torch.randn(tensor.shape, generator=generator), tensor.float().flatten(1)
        ratio = rows.norm(dim=1, keepdim=True) / drawn.flatten(1).norm(dim=1, keepdim=True)
        return (drawn.flatten(1) * ratio).view_as(tensor)

    return {name: (draw(name, t, "1"), draw(name, t, "2")) for name, t in trained.items() if t.dim() > 1}


def has_filters(engine: Engine) -> bool:
    return any(len(getattr(p, "ds_shape", p.shape)) > 1 for p in engine.trainable.values())


def losses(engine: Engine, batches: list[Batch], points: Tensor, seed: int) -> dict[int, list[float]]:
    """Of each example of `batches`, by its index, the loss at each of `points` [N, 2]. A collective call.

    The trained weights are put back, bit for bit.
    """
    tuned, trained = engine.tuned, engine.state()
    found = directions(trained, seed)
    common = [tuned.shared_prefix(batch, tuned.first_trainable_depth) for batch in batches]
    columns: list[Tensor] = []
    for a, b in points.tolist():
        pulse.count_progress()
        engine.load(Slice(trained, found, a, b))
        with torch.no_grad():
            logits = [tuned.logits(batch, below=below) for batch, below in zip(batches, common, strict=True)]
        own = [tuned.loss(one, batch, reduction="none") for one, batch in zip(logits, batches, strict=True)]
        columns.append(torch.cat(own).double().cpu())
    engine.load(trained)
    back = engine.state()
    assert all(torch.allclose(back[n], t, rtol=0, atol=0, equal_nan=True) for n, t in trained.items()), "put back"
    index = torch.cat([batch.example_ids for batch in batches]).tolist()
    return dict(zip(index, torch.stack(columns, 1).tolist(), strict=True))
