"""What a model is shown in one pass: a batch, clean and perturbed, each view with its share in the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from bench.models.stack import Batch, CachedPrefix, Edit, Stream


class Perturbation(Protocol):
    """A change of the text entering `depth`: at EMBEDDINGS, of the word embeddings. Prompts stay as they are."""

    @property
    def depth(self) -> int: ...

    def __call__(self, text: Tensor) -> Tensor:
        """[B, T, H] -> [B, T, H]."""
        ...


@dataclass(frozen=True)
class Shift:
    """Adds `delta` [B, T, H]."""

    depth: int
    delta: Tensor

    def __call__(self, text: Tensor) -> Tensor:
        return text + self.delta


@dataclass(frozen=True)
class BatchView:
    """A batch as it is shown: `symmetric_kl` is the divergence from the first view of the pass, both ways."""

    batch: Batch
    weight: float = 1.0
    loss: Literal["cross_entropy", "symmetric_kl"] = "cross_entropy"
    perturbation: Perturbation | None = None


@dataclass(frozen=True)
class ForwardPass:
    """Views of the same T that go through the model as one batch, one below the other.

    One pass and not one for each: a forward and a backward over twice the rows costs less than two, and under ZeRO-3
    every layer is gathered once.
    """

    views: tuple[BatchView, ...]
    cached_prefix: CachedPrefix | None = None  # of each view: what lies below all that tells them apart
    gradient_from: int | None = None  # None: from the method's first trainable depth

    @property
    def batch(self) -> Batch:
        batches = [view.batch for view in self.views]
        return batches[0] if len(batches) == 1 else Batch.joined(batches)

    @property
    def rows(self) -> list[int]:
        return [len(view.batch.ids) for view in self.views]

    @property
    def edit(self) -> Edit:
        return _PerturbedRows(self.views)

    @property
    def repeated_prefix(self) -> CachedPrefix | None:
        return None if self.cached_prefix is None else self.cached_prefix.repeated(len(self.views))


@dataclass(frozen=True)
class _PerturbedRows:
    """An Edit: each view's perturbation on its own rows."""

    views: tuple[BatchView, ...]

    def __call__(self, depth: int, stream: Stream) -> Stream:
        found = [view.perturbation for view in self.views]
        if all(one is None or one.depth != depth for one in found):
            return stream
        texts = stream.text.split([len(view.batch.ids) for view in self.views])
        changed = [
            text if one is None or one.depth != depth else one(text) for text, one in zip(texts, found, strict=True)
        ]
        return with_text(stream, torch.cat(changed))


def with_text(stream: Stream, text: Tensor) -> Stream:
    """The stream with another text [B, T, H] behind its prompt."""
    if stream.prompt_tokens == 0:
        return stream._replace(states=text)
    return stream._replace(states=torch.cat([stream.states[:, : stream.prompt_tokens], text], 1))
