"""What every perturbation shares: the views it trains on, and its share in the loss.

The paper's equation and settings are not public; the form is our reading of its abstract and figure:
`clean_weight * CE(clean) + weight * CE(perturbed)`, on the input's word embeddings before positions and norm or on its
words, never on prompts, padding, special or template tokens, and never at evaluation.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from bench.core.settings import Settings, departures
from bench.models.backbones import EMBEDDINGS, Backbone, check_depth
from bench.models.pass_cost import PassCost


class Regularizer(Settings):
    """A member of the regularizer axis. Subclasses add a literal `kind` and `space`, and their settings."""

    space: Literal["embeddings", "text"] | None = None
    refreshes: ClassVar[bool] = False  # perturbs the training examples once an epoch, all of them together
    kind: str

    @property
    def passes(self) -> int:
        """How many passes, each with a backward, a batch is trained on."""
        return 1

    @property
    def differs_at(self) -> int | None:
        """The depth below which all its views of a batch are the same; None: it has one view, the batch itself."""
        return None

    @property
    def uneven(self) -> bool:
        """Whether ranks make different numbers of passes when they refresh."""
        return False

    @property
    def label(self) -> str:
        space = " text" if self.space == "text" else ""
        return " ".join([self.kind + space, *departures(self, {"kind", "space"})])

    @property
    def probed(self) -> Regularizer:
        """As preflight runs it, on tokens without texts."""
        return self

    def check(self, backbone: Backbone) -> str | None:
        """What is wrong with these settings on this backbone."""
        return None

    def walks(self, first: int, shared: bool = True) -> list[PassCost]:
        """What a step costs, without the refreshing; `first` is the lowest layer that needs a backward.

        `shared`: what lies below all that tells passes apart is computed once.
        """
        return [PassCost()]

    def equivalents(self, layers: int, first: int, weights: float) -> float:
        """What a step costs, in forward passes through a frozen backbone; a backward to its inputs counts as one.

        `first` is the lowest of `layers` that needs a backward, `weights` the share of the weights that train: their
        gradients cost as much again. Without what is outside the layers, without the refreshing, and for lower layers
        without dropout.
        """
        total = 0.0
        for walk in self.walks(first):
            cost = _above(walk.start, layers) - (0 if walk.stop is None else _above(walk.stop, layers))
            if walk.stop is None:
                cost += _above(first if walk.gradient_from is None else walk.gradient_from, layers)
                cost += weights * _above(first, layers) if walk.weights else 0
            total += walk.views * walk.times * cost
        return total


class TwoViews(Regularizer):
    """Trains on the clean and on a perturbed view of each batch.

    Cross-entropy on both is our reading of the paper; the symmetric KL divergence between them is the form of R3F
    (Aghajanyan et al. 2020, arXiv 2008.03156) and SMART, here over all that the head's loss is over: the vocabulary,
    for answer words. An attack ascends the cross-entropy in either case, where SMART's ascends the divergence.
    """

    loss: Literal["cross_entropy", "symmetric_kl"] = "cross_entropy"  # of the perturbed view
    weight: float = Field(default=1.0, gt=0)  # of the perturbed loss
    clean_weight: float = Field(default=1.0, ge=0)  # 0: the perturbed loss alone

    @model_validator(mode="after")
    def trains_on_labels(self) -> TwoViews:
        if self.loss == "symmetric_kl" and self.clean_weight == 0:
            raise ValueError("a clean_weight above 0 with symmetric_kl, which does not see the labels")
        return self

    @property
    def differs_at(self) -> int | None:
        return EMBEDDINGS

    def walks(self, first: int, shared: bool = True) -> list[PassCost]:
        return [PassCost(views=2 if self.clean_weight else 1)]


class EmbeddingPerturbation(TwoViews):
    """Changes the text at `depth`: the word embeddings, or the input of a layer.

    At the word embeddings it reaches every layer. At a prompt's own depth ("late PTP", ours) it costs the upper
    layers only: what lies below is computed once for all passes of a step, unless `lower_dropout` draws anew in each.
    """

    space: Literal["embeddings"] = "embeddings"
    depth: Literal["words"] | int = "words"

    @field_validator("depth", mode="before")
    @classmethod
    def is_words_or_a_layer(cls, depth: object) -> object:
        if depth == "words" or type(depth) is int:
            return depth
        raise ValueError("words or a layer")

    def check(self, backbone: Backbone) -> str | None:
        return None if self.depth == "words" else check_depth(self.depth, backbone.layers)

    @property
    def at(self) -> int:
        return EMBEDDINGS if self.depth == "words" else self.depth

    @property
    def differs_at(self) -> int | None:
        return self.at

    def shared_part(self, first: int, shared: bool) -> int:
        """The depth up to which all passes are the same."""
        return min(self.at, first) if shared else EMBEDDINGS

    def walks(self, first: int, shared: bool = True) -> list[PassCost]:
        common = self.shared_part(first, shared)
        (both,) = super().walks(first, shared)
        return [*([] if common == EMBEDDINGS else [PassCost(stop=common)]), both._replace(start=common)]


def _above(depth: int, layers: int) -> float:
    """The share of the layers from `depth` up."""
    return (layers - max(depth, 0)) / layers
