"""PTP-ADV in text space: words of the user's replaced so that the loss rises, once an epoch.

Which attack the paper used is not public. `gradient` is ours and needs nothing but the backbone: from one gradient of
the loss with respect to the word embeddings, the tokens with the largest are replaced by that neighbour in the
backbone's own word embeddings which raises the loss most, to first order. `a2t` is TextAttack's recipe.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bench.data.batches import rows
from bench.data.templates import Encoded
from bench.kernels.swap import Neighbours, nearest
from bench.models.backbones import Backbone
from bench.models.stack import EMBEDDINGS, Batch, whole
from bench.regularizers import a2t
from bench.regularizers.base import Run, TwoViews
from bench.regularizers.rewriting import Rewriting


class TextAttack(TwoViews):
    """Up to `rate` of an example's tokens, or one, are replaced by others of a cosine of at least `cosine`.

    Rate, cosine and number of neighbours are A2T's (Yoo and Qi 2021, arXiv 2109.00544), which counts words.
    """

    refreshes: ClassVar[bool] = True
    kind: Literal["attack"] = "attack"
    space: Literal["text"] = "text"
    attacker: Literal["gradient", "a2t"] = "gradient"
    rate: float = Field(default=0.1, gt=0, le=1)
    cosine: float = Field(default=0.8, ge=-1, le=1)
    neighbours: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def a2t_is_as_it_is(self) -> TextAttack:
        own = {name: type(self).model_fields[name].get_default() for name in ("rate", "cosine", "neighbours")}
        if self.attacker == "a2t" and any(getattr(self, name) != value for name, value in own.items()):
            raise ValueError(f"with a2t its own {', '.join(f'{name} {value}' for name, value in own.items())}")
        return self

    @property
    def probed(self) -> TextAttack:
        """On a random model no word is near another."""
        return self.model_copy(update={"attacker": "gradient", "cosine": -1.0})

    @property
    def uneven(self) -> bool:
        return self.attacker == "a2t"

    def check(self, backbone: Backbone) -> str | None:
        return a2t.missing() if self.attacker == "a2t" else None

    def on(self, run: Run) -> Rewriting:
        return GradientSwaps(self, run) if self.attacker == "gradient" else a2t.A2t(self, run)


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
