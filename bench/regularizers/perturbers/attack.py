"""Projected gradient ascent on the loss, as PGD or as FreeLB."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.models.forward_passes import BatchView, ForwardPass, Shift
from bench.models.stack import Batch, CachedPrefix
from bench.regularizers.attack import Attack
from bench.regularizers.perturbers.base import Perturber, Run, clean_and_perturbed


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

    def passes(self, batch: Batch, prefix: CachedPrefix | None = None) -> Iterator[ForwardPass]:
        attack = self.attack
        common = self.tuned.shared_prefix(batch, attack.at, prefix)
        delta = self.worst(batch, common)
        yield clean_and_perturbed(attack, batch, batch, Shift(attack.at, delta), common)

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

    def passes(self, batch: Batch, prefix: CachedPrefix | None = None) -> Iterator[ForwardPass]:
        attack = self.attack
        common = self.tuned.shared_prefix(batch, attack.at, prefix)
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
