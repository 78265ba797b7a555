"""PTP-ADV in embedding space: projected gradient ascent on the loss, as PGD or as FreeLB.

The rule is FreeLB's (Zhu et al. 2020, arXiv 1909.11764; zhuchen03/FreeLB, run_glue_freelb.py:226-296): norms are per
example over all its tokens, the start is U(-1, 1) * initial / sqrt(tokens * H). Unlike there, every step is masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bench.models.forward_passes import BatchView, ForwardPass, PassCost, Shift
from bench.models.stack import EMBEDDINGS, Batch, CachedPrefix
from bench.regularizers.base import EmbeddingPerturbation, Perturber, Run


class Attack(EmbeddingPerturbation):
    """`pgd` trains on the last point of the ascent, `freelb` on the mean over all of them.

    The paper's settings are not public: the defaults are FreeLB's for MNLI on RoBERTa-large. The norms are absolute
    and per sequence, so they do not transfer to a backbone with another embedding scale.
    """

    kind: Literal["attack"] = "attack"
    algorithm: Literal["pgd", "freelb"] = "pgd"
    norm: Literal["l2", "linf"] = "l2"
    steps: int = Field(default=2, ge=1)
    step_size: float = Field(default=0.1, gt=0)
    radius: float = Field(default=0.3, ge=0)  # 0: no projection
    initial: float = Field(default=0.1, ge=0)  # magnitude of the random start

    @model_validator(mode="after")
    def freelb_trains_on_cross_entropy(self) -> Attack:
        if self.algorithm == "freelb" and self.loss == "symmetric_kl":
            raise ValueError("cross_entropy with freelb, which takes each point's pass by itself")
        return self

    @property
    def passes(self) -> int:
        clean = 1 if self.clean_weight else 0
        return 1 if self.algorithm == "pgd" else self.steps + clean

    def on(self, run: Run) -> Perturber:
        return Pgd(self, run) if self.algorithm == "pgd" else FreeLb(self, run)

    def walks(self, first: int, shared: bool = True) -> list[PassCost]:
        common, at = self.shared_part(first, shared), self.at
        *below, both = super().walks(first, shared)
        if self.algorithm == "pgd":
            between = [] if at == EMBEDDINGS else [PassCost(common, stop=at)]
            inner = PassCost(at, times=self.steps, gradient_from=at, text_from=at, weights=False)
            return [*below, *between, inner, both]
        clean = [PassCost(common)] if self.clean_weight else []
        return [*below, *clean, PassCost(common, times=self.steps, gradient_from=min(at, first), text_from=at)]


class Ascent(Perturber):
    def __init__(self, attack: Attack, run: Run):
        super().__init__(run)
        self.attack = attack
        self.rule = attack.step_size, attack.radius, attack.norm

    def start(self, batch: Batch) -> Tensor:
        """[B, T, H]."""
        attack, tuned = self.attack, self.tuned
        width = tuned.stack.width(attack.at)
        zeros = torch.zeros(*batch.ids.shape, width, dtype=tuned.dtype, device=batch.ids.device)
        if attack.initial == 0:
            return zeros
        draws = self.kernels.noise(zeros, batch.perturbable_mask, attack.initial, batch.noise_seeds, "uniform")
        if attack.norm == "linf":
            return draws
        sizes = batch.text_mask.sum(1) * width
        return (draws / sizes.sqrt()[:, None, None]).to(tuned.dtype)


class Pgd(Ascent):
    """The inner passes run on the bare module in eval mode: the parameters get no gradient, dropout is off."""

    def passes(self, batch: Batch) -> Iterator[ForwardPass]:
        attack = self.attack
        common = self.tuned.shared_prefix(batch, attack.at)
        delta = self.worst(batch, common)
        yield attack.views(batch, batch, Shift(attack.at, delta), common)

    def worst(self, batch: Batch, common: CachedPrefix | None) -> Tensor:
        """[B, T, H]: the delta at the end of the ascent. What lies below the attacked depth runs once."""
        delta = self.start(batch)
        with self.tuned.evaluating():
            below = self.tuned.prefix_states(batch, self.attack.at, common)
            text = below.stream.text
            moved = text + delta
            for _ in range(self.attack.steps):
                gradient = self.tuned.gradient(batch, below, moved)
                delta, moved = self.kernels.ascent(delta, gradient, batch.perturbable_mask, *self.rule, text)
                assert moved is not None
        return delta


class FreeLb(Ascent):
    """Every point of the ascent is trained on, so that one backward gives its gradient and the next step.

    Dropout is on, with the same masks in each of them, as in FreeLB's code.
    """

    def passes(self, batch: Batch) -> Iterator[ForwardPass]:
        attack = self.attack
        common = self.tuned.shared_prefix(batch, attack.at)
        if attack.clean_weight:
            yield ForwardPass((BatchView(batch, attack.clean_weight),), common)
        delta, dropout = self.start(batch), random_state(batch.ids.device)
        for step in range(attack.steps):
            if step > 0:
                assert delta.grad is not None, "the pass has had its backward"
                delta, _ = self.kernels.ascent(delta.detach(), delta.grad, batch.perturbable_mask, *self.rule)
                restore(dropout, batch.ids.device)
            delta.requires_grad_(True)
            view = BatchView(batch, attack.weight / attack.steps, perturbation=Shift(attack.at, delta))
            yield ForwardPass((view,), common, gradient_from=min(attack.at, self.tuned.first_trainable_depth))


def random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def restore(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
