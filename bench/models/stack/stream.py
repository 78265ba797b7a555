"""What flows up a Stack: a batch, the stream of its states, and what of it is known already.

Shapes as at the head of stack.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Padded on the right, for encoders and decoders alike."""

    ids: Tensor  # [B, T] int64
    text_mask: Tensor  # [B, T] bool: real tokens, no padding
    perturbable_mask: Tensor  # [B, T] bool: words of the user's text, which a perturbation may touch
    segments: Tensor  # [B, T] int64: 0, or 1 in the second text of a pair
    answer: Tensor  # [B] int64: the position that answers (the mask, or the last token of a decoder's text)
    labels: Tensor  # [B] int64: class indices
    noise_seeds: Tensor  # [B] int64: one number per example and step, the seed of its noise
    example_ids: Tensor  # [B] int64: which example of its split

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        return Batch(**{name: value.to(device, non_blocking=non_blocking) for name, value in vars(self).items()})

    def pinned(self) -> Batch:
        """In host memory that a GPU reads by itself."""
        return Batch(**{name: value.pin_memory() for name, value in vars(self).items()})

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """One below the other; all of the same T."""
        return cls(**{name: torch.cat([getattr(batch, name) for batch in batches]) for name in vars(batches[0])})


Prefix = tuple[Tensor, Tensor]  # keys and values, each [P, key-value heads, head dimension]


class Stream(NamedTuple):
    """What enters a layer. A tuple, because ZeRO-3 finds the tensors in those and in nothing of our own."""

    states: Tensor  # [B, S, H]
    mask: Tensor  # [B, S] bool
    prompt_tokens: int = 0  # P: how many leading positions are prompt
    prefixes: tuple[Prefix, ...] = ()  # one per layer, or none: what its attention sees in front of its own keys

    @property
    def text(self) -> Tensor:
        """[B, T, H]: the states of the text, without the prompt; [B, 1, H] behind a last layer read at one position."""
        return self.states[:, self.prompt_tokens :]


KeysValues = tuple[Tensor, Tensor]  # each [B, key-value heads, S, head dimension]
Edit = Callable[[int, Stream], Stream]  # (depth, stream entering that layer) -> stream; at EMBEDDINGS, the words'


class CachedPrefix(NamedTuple):
    """What lies below a depth, computed already."""

    depth: int  # EMBEDDINGS, or a layer; L is behind the last
    stream: Stream  # entering it, before the edits at that depth; at EMBEDDINGS, of the word embeddings

    def repeated(self, times: int) -> CachedPrefix:
        """The same rows `times` times, one below the other."""
        if times == 1:
            return self
        stream = self.stream
        states, mask = torch.cat([stream.states] * times), torch.cat([stream.mask] * times)
        return self._replace(stream=stream._replace(states=states, mask=mask))


def at(states: Tensor, positions: Tensor) -> Tensor:
    """[B, T, ...] at [B] -> [B, ...]."""
    return states[torch.arange(len(states), device=states.device), positions]
