"""Words of the user's replaced by neighbours that raise the loss, to first order."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.data.batches import rows
from bench.data.templates import Encoded
from bench.kernels.swap import Neighbours, nearest
from bench.models.backbones import EMBEDDINGS
from bench.models.stack import Batch, whole
from bench.regularizers.attack_text import TextAttack
from bench.regularizers.perturbers.base import Run
from bench.regularizers.perturbers.rewriting import Rewriting


class GradientSwaps(Rewriting):
    def __init__(self, attack: TextAttack, run: Run):
        super().__init__(attack, run)
        self.attack = attack
        words = run.tuned.stack.word_embeddings
        self.ordinary = torch.zeros(words.num_embeddings, dtype=torch.bool, device=words.weight.device)
        self.ordinary[torch.tensor(run.vocabulary.ordinary)] = True
        self.table: Neighbours | None = None  # of the tokens seen so far

    def begin(self) -> None:
        """Where the word embeddings train, their neighbours change."""
        if self.tuned.stack.word_embeddings.weight.requires_grad:
            self.table = None

    def rewrite(self, batch: Batch) -> dict[int, Encoded]:
        gradient = self.gradient(batch)
        weight = self.tuned.stack.word_embeddings.weight
        with whole([weight]):
            self.table = self.extended(batch, weight)
            swapped, gain = self.kernels.swap(
                gradient, batch.ids, batch.perturbable_mask, weight.detach(), self.table, self.attack.cosine
            )
        chosen = self.choose(gradient, gain > 0, batch.perturbable_mask)
        return rows(batch, torch.where(chosen, swapped, batch.ids))

    def gradient(self, batch: Batch) -> Tensor:
        """[B, T, H]: of each example's loss with respect to its word embeddings."""
        with self.tuned.evaluating():
            words = self.tuned.prefix_states(batch, EMBEDDINGS)
            return self.tuned.gradient(batch, words, words.stream.text)

    def extended(self, batch: Batch, weight: Tensor) -> Neighbours:
        """The table with the tokens of `batch` that are new to it."""
        tokens = batch.ids[batch.perturbable_mask].unique()
        if self.table is None:
            return nearest(weight, tokens, self.attack.neighbours, self.ordinary)
        new = tokens[self.table.rows[tokens] < 0]
        return (
            self.table.joined(nearest(weight, new, self.attack.neighbours, self.ordinary)) if len(new) else self.table
        )

    def choose(self, gradient: Tensor, possible: Tensor, eligible: Tensor) -> Tensor:
        """[B, T] bool: of the `possible` tokens those with the largest gradients, as many as the rate allows."""
        importance = gradient.float().norm(dim=-1).masked_fill(~possible, -1)
        rank = importance.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        allowed = (eligible.sum(1, keepdim=True) * self.attack.rate).long().clamp_min(1)
        return possible & (rank < allowed)
