"""PTP-RN in embedding space: Gaussian noise on the text."""

from typing import Literal

import torch
from pydantic import Field

from bench.perturb.base import EmbeddingPerturbation, View, per_example
from bench.stack import Batch
from bench.tuned import Tuned


class Noise(EmbeddingPerturbation):
    """`delta = sigma * N(0, 1)`. The paper's sigma and law are not public: the default is ours."""

    kind: Literal["noise"] = "noise"
    sigma: float = Field(default=0.01, gt=0)

    def view(self, tuned: Tuned, batch: Batch) -> View:
        noise = per_example(
            batch,
            tuned.stack.width(self.at),
            lambda generator, shape: torch.randn(shape, generator=generator, device=generator.device),
        )
        return self.apply(batch, (self.sigma * noise).to(tuned.dtype))
