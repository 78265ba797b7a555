"""The loss over each example's gradient and an orthogonal direction, in the space of its word embeddings.

The axes are those of the PTP paper's figure (Chen et al. 2023, arXiv 2305.02423); all else is our reading. Tokens that
a perturbation must not touch do not move.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bench.cluster.heartbeat import pulse
from bench.kernels.philox import normals
from bench.methods.tuned_model import TunedModel
from bench.models.backbones import EMBEDDINGS
from bench.models.forward_passes import with_text
from bench.models.stack import Batch, CachedPrefix

ROWS = 64  # of a forward, grid points times examples: as many as in an evaluation


class Plane(NamedTuple):
    """Two directions [B, T, H] through the word embeddings of some examples, orthonormal for each; at least float32.

    A direction is 0 where there is none: the first under a gradient of 0, both where no token may move.
    """

    batch: Batch
    prefix: CachedPrefix  # at EMBEDDINGS
    first: Tensor  # of the gradient
    second: Tensor  # random, from the example's key
    slopes: Tensor  # [B]: the length of the gradient over the tokens that may move


def plane(tuned: TunedModel, batch: Batch) -> Plane:
    words = tuned.prefix_states(batch, EMBEDDINGS)
    gradient = tuned.gradient(batch, words, words.stream.text)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32)) * batch.perturbable_mask[..., None]
    first, slopes = _normalized(gradient)
    draws = normals(batch.noise_seeds, gradient[0].numel()).view_as(gradient)
    second = draws.to(gradient) * batch.perturbable_mask[..., None]
    for _ in range(2):  # once leaves what the rounding of a long draw left
        second = second - (second * first).sum((1, 2), keepdim=True) * first
    return Plane(batch, words, first, _normalized(second)[0], slopes)


def losses(tuned: TunedModel, planes: Plane, points: Tensor, rank: int, ranks: int) -> Tensor:
    """[N] float64: at each of `points` [N, 2] the sum over the examples; 0 at those of other ranks.

    ZeRO-3 needs all ranks in each forward: one that has no more takes points again, and does not count them.
    """
    groups = torch.arange(len(points)).split(max(1, ROWS // len(planes.batch.ids)))
    sums = torch.zeros(len(points), dtype=torch.float64)
    for first in range(0, len(groups), ranks):
        group = groups[(first + rank) % len(groups)]
        found = at(tuned, planes, points[group]).sum(1)
        if first + rank < len(groups):
            sums[group] = found
    return sums


@torch.no_grad()
def at(tuned: TunedModel, planes: Plane, points: Tensor) -> Tensor:
    """[N, B] float64 on the CPU: each example's loss at each of `points` [N, 2]; one forward."""
    pulse.count_progress()
    batch = Batch.joined([planes.batch] * len(points))
    loss = tuned.loss(tuned.logits(batch, below=_moved(planes, points)), batch, reduction="none")
    return loss.double().cpu().view(len(points), -1)


def hessian(tuned: TunedModel, planes: Plane, step: float) -> Tensor:
    """[2, 2] float64: the sum over the examples of the Hessian in the plane at its middle.

    By central differences of gradients: those of losses are lost in the rounding where the step is small, and far off
    where it is that of a grid.
    """
    steps = torch.eye(2, dtype=torch.float64) * step
    rows: list[Tensor] = []
    for offset in steps:
        moved = (_moved(planes, one[None]) for one in (offset, -offset))
        there, back = (tuned.gradient(planes.batch, words, words.stream.text) for words in moved)
        change = (there.double() - back.double()) / (2 * step)
        rows.append(torch.stack([(change * direction).sum() for direction in (planes.first, planes.second)]))
    found = torch.stack(rows).cpu()
    return (found + found.T) / 2


def _moved(planes: Plane, points: Tensor) -> CachedPrefix:
    """The word embeddings at each of `points` [N, 2], one below the other."""
    a, b = points.to(planes.first).view(-1, 2, 1, 1, 1).unbind(1)
    words = planes.prefix.repeated(len(points))
    shift = (a * planes.first + b * planes.second).flatten(0, 1)  # [N * B, T, H]
    return words._replace(stream=with_text(words.stream, (words.stream.text + shift).to(words.stream.text.dtype)))


def _normalized(direction: Tensor) -> tuple[Tensor, Tensor]:
    """Each example's direction [B, T, H] at length 1, or 0 where it is 0; and the lengths [B]."""
    length = torch.linalg.vector_norm(direction, dim=(1, 2))
    return direction / length.masked_fill(length == 0, 1)[:, None, None], length
