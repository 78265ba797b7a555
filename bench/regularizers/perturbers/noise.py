"""Noise on embeddings or hidden states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from bench.kernels.dispatch import Kernels
from bench.models.forward_passes import ForwardPass
from bench.models.stack import Batch, CachedPrefix, whole
from bench.regularizers.noise import Noise
from bench.regularizers.perturbers.base import Perturber, Run, clean_and_perturbed


class Noisy(Perturber):
    def __init__(self, noise: Noise, run: Run):
        super().__init__(run)
        self.noise = noise
        self.sigma = noise.sigma or 0.0
        if noise.sigma_relative is not None:
            stack = run.tuned.stack
            with whole([stack.word_embeddings.weight]):
                deviation = stack.words_scale * stack.word_embeddings.weight.detach().float().std().item()
            self.sigma = noise.sigma_relative * deviation

    def passes(self, batch: Batch, prefix: CachedPrefix | None = None) -> Iterator[ForwardPass]:
        noise = self.noise
        addition = AddNoise(noise.at, batch.perturbable_mask, self.sigma, batch.noise_seeds, noise.law, self.kernels)
        yield clean_and_perturbed(noise, batch, batch, addition, self.tuned.shared_prefix(batch, noise.at, prefix))


@dataclass(frozen=True)
class AddNoise:
    """A Perturbation: noise where `mask` [B, T] is True, each example's from its own key of `keys` [B].

    It is the same on any number of ranks, and does not depend on how far the neighbours are padded.
    """

    depth: int
    mask: Tensor
    sigma: float
    keys: Tensor
    law: Literal["gaussian", "uniform"]
    kernels: Kernels

    def __call__(self, text: Tensor) -> Tensor:
        return self.kernels.noise(text, self.mask, self.sigma, self.keys, self.law)
