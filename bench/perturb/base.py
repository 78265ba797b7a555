"""What every perturbation shares: the view, the tokens it may touch, and the seeds of its noise.

The paper's equation and settings are not public; the form is our reading of its abstract and figure:
`clean + weight * CE(perturbed)`, on the input's word embeddings before positions and norm, never on prompts,
padding, special or template tokens, and never at evaluation.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from bench.backbones import check_depth
from bench.settings import Settings, departures
from bench.stack import WORDS, Batch, Edit, Stream

if TYPE_CHECKING:
    from bench.tuned import Tuned


@dataclass(frozen=True)
class View:
    """A batch as a regularizer shows it to the model: its share in the loss, and edits that come before a method's."""

    batch: Batch
    weight: float = 1.0
    edits: tuple[Edit, ...] = ()


class Regularizer(Settings):
    """A member of the regularizer axis. Subclasses add a literal `kind`, their settings, and `view`."""

    kind: str

    @property
    def label(self) -> str:
        return " ".join([self.kind, *departures(self, {"kind"})])

    @abstractmethod
    def view(self, tuned: Tuned, batch: Batch) -> View | None:
        """The perturbed view beside the clean one; None for none. `tuned` is the bare module, not the engine."""

    def views(self, tuned: Tuned, batch: Batch) -> list[View]:
        """All that is trained on: the clean view, and the perturbed one if there is one."""
        perturbed = self.view(tuned, batch)
        return [View(batch)] + ([perturbed] if perturbed is not None else [])

    def check(self, layers: int) -> str | None:
        return None


class EmbeddingPerturbation(Regularizer):
    """Adds a delta [B, T, H] to the text at `depth`: the word embeddings, or the input of a layer.

    A delta at the word embeddings reaches every layer; one at a prompt's own depth costs the upper layers only.
    """

    space: Literal["embeddings"] = "embeddings"
    depth: Literal["words"] | int = "words"
    weight: float = Field(default=1.0, gt=0)  # of the perturbed loss

    def check(self, layers: int) -> str | None:
        return None if self.depth == "words" else check_depth(self.depth, layers)

    @property
    def at(self) -> int:
        return WORDS if self.depth == "words" else self.depth

    def apply(self, batch: Batch, delta: Tensor) -> View:
        if self.depth == "words":
            return View(replace(batch, shift=delta), self.weight)
        return View(batch, self.weight, (Shift(self.depth, delta),))


@dataclass(frozen=True)
class Shift:
    """An Edit: adds `delta` [B, T, H] to the text entering layer `depth`; the prompt stays as it is."""

    depth: int
    delta: Tensor

    def __call__(self, depth: int, stream: Stream) -> Stream:
        if depth != self.depth:
            return stream
        prompt = stream.states[:, : stream.prompt_tokens]
        return stream._replace(states=torch.cat([prompt, stream.text + self.delta], 1))


def per_example(batch: Batch, hidden: int, draw: Callable[[torch.Generator, tuple[int, int]], Tensor]) -> Tensor:
    """[B, T, H] of draws in fp32, each example's from its own key: the same on any number of ranks.

    What an example draws for its tokens does not depend on how far its neighbours are padded either.
    """
    device = batch.ids.device
    generator = torch.Generator(device)
    made = torch.zeros(*batch.ids.shape, hidden, device=device)
    lengths = batch.text_mask.sum(1).tolist()
    for i, (key, length) in enumerate(zip(batch.keys.tolist(), lengths, strict=True)):
        made[i, :length] = draw(generator.manual_seed(key), (length, hidden))
    return made * batch.eligible[..., None]
