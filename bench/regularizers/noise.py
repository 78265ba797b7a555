"""PTP-RN in embedding space: random noise on the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor

from bench.kernels import Kernels
from bench.models.forward_passes import ForwardPass
from bench.models.stack import Batch, whole
from bench.regularizers.base import EmbeddingPerturbation, Perturber, Run


class Noise(EmbeddingPerturbation):
    """Gaussian, sigma * N(0, 1), or as in R3F uniform, sigma * U(-1, 1).

    The paper's sigma and law are not public: the defaults are ours. `sigma_relative` is in standard deviations of the
    word embeddings' entries, so that one number transfers between backbones.
    """

    kind: Literal["noise"] = "noise"
    law: Literal["gaussian", "uniform"] = "gaussian"
    sigma: float | None = Field(default=None, gt=0)  # where neither is given 0.01
    sigma_relative: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def has_one_sigma(cls, given: dict[str, Any]) -> dict[str, Any]:
        sigmas = [given.get(name) for name in ("sigma", "sigma_relative")]
        if None not in sigmas:
            raise ValueError("one of sigma and sigma_relative")
        return given if any(sigmas) else {**given, "sigma": 0.01}

    def on(self, run: Run) -> Perturber:
        return Noisy(self, run)


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

    def passes(self, batch: Batch) -> Iterator[ForwardPass]:
        noise = self.noise
        addition = AddNoise(noise.at, batch.perturbable_mask, self.sigma, batch.noise_seeds, noise.law, self.kernels)
        yield noise.views(batch, batch, addition, self.tuned.shared_prefix(batch, noise.at))


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
