"""PTP-ADV in embedding space: projected gradient ascent on the loss (PGD), with FreeLB's kernel.

The rule is FreeLB's (zhuchen03/FreeLB, run_glue_freelb.py:226-296): norms are per example over all its tokens,
the start is U(-1, 1) * initial / sqrt(tokens * H). Unlike there, every step is masked explicitly.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from bench.perturb.base import EmbeddingPerturbation, View, per_example
from bench.stack import WORDS, Batch
from bench.tuned import Tuned


class Attack(EmbeddingPerturbation):
    """The paper's settings are not public: the defaults are FreeLB's for MNLI on RoBERTa-large.

    The norms are absolute and per sequence, so they do not transfer to a backbone with another embedding scale.
    """

    kind: Literal["attack"] = "attack"
    norm: Literal["l2", "linf"] = "l2"
    steps: int = Field(default=2, ge=1)
    step_size: float = Field(default=0.1, gt=0)
    radius: float = Field(default=0.3, ge=0)  # 0: no projection
    initial: float = Field(default=0.1, ge=0)  # magnitude of the random start

    def view(self, tuned: Tuned, batch: Batch) -> View:
        """The inner passes run on the bare module in eval mode: the parameters get no gradient, dropout is off.

        What lies below the attacked depth runs once, not once a step.
        """
        delta = self.start(tuned, batch)
        with tuned.evaluating():
            below = None if self.at == WORDS else tuned.below(batch, self.at)
            for _ in range(self.steps):
                view = self.apply(batch, delta.requires_grad_(True))
                if below is None:
                    logits = tuned.logits(view.batch, gradient_from=WORDS)
                else:
                    logits = tuned.logits_above(batch, below, self.at, view.edits)
                loss = tuned.loss(logits, batch, reduction="sum")  # each example's gradient is its own
                (gradient,) = torch.autograd.grad(loss, delta)
                delta = self.ascend(delta.detach(), gradient, batch.eligible)
        return self.apply(batch, delta)

    def start(self, tuned: Tuned, batch: Batch) -> Tensor:
        def uniform(generator: torch.Generator, shape: tuple[int, int]) -> Tensor:
            draw = torch.empty(shape, device=generator.device).uniform_(-1, 1, generator=generator)
            return draw * (self.initial / (shape[0] * shape[1]) ** 0.5 if self.norm == "l2" else self.initial)

        return per_example(batch, tuned.stack.width(self.at), uniform).to(tuned.dtype)

    def ascend(self, delta: Tensor, gradient: Tensor, eligible: Tensor) -> Tensor:
        """One step along the gradient's direction, then back into the ball; [B, T, H], float32 inside."""
        dtype, gradient = delta.dtype, gradient.float() * eligible[..., None]  # 1e-8 is 0 in fp16
        delta = delta.float() + self.step_size * gradient / length(gradient, self.norm).clamp_min(1e-8)
        if self.radius and self.norm == "linf":
            delta = delta.clamp(-self.radius, self.radius)
        elif self.radius:
            delta = delta * (self.radius / length(delta, "l2").clamp_min(1e-8)).clamp_max(1.0)
        return delta.to(dtype)


def length(delta: Tensor, norm: str) -> Tensor:
    """[B, 1, 1]: the norm of each example's [T, H], in fp32."""
    order = 2 if norm == "l2" else float("inf")
    return torch.linalg.vector_norm(delta.float(), order, dim=(1, 2), keepdim=True)
