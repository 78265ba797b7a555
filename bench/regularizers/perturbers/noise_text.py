"""Random edits of the user's words. A word here is a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from bench.kernels.philox import uniforms
from bench.models.forward_passes import ForwardPass
from bench.models.stack import Batch, CachedPrefix
from bench.regularizers.noise_text import Operation, TextNoise
from bench.regularizers.perturbers.base import Perturber, Run, clean_and_perturbed


class Editing(Perturber):
    def __init__(self, noise: TextNoise, run: Run):
        super().__init__(run)
        if noise.operation == "mask" and run.vocabulary.mask is None:
            raise ValueError("regularizer.operation: found mask, but the tokenizer has no mask token")
        self.noise = noise
        self.words = Words.of(run)

    def passes(self, batch: Batch, prefix: CachedPrefix | None = None) -> Iterator[ForwardPass]:
        hits = batch.perturbable_mask & (uniforms(batch.noise_seeds, batch.ids.shape[1]) < self.noise.rate)
        edited = OPERATIONS[self.noise.operation](batch, hits, self.words)
        yield clean_and_perturbed(self.noise, widened(batch, edited.ids.shape[1], self.words.pad), edited)


class Words(NamedTuple):
    """What an edit may put into a text."""

    ordinary: Tensor  # int64
    pad: int
    mask: int | None
    longest: int  # tokens of a text

    @classmethod
    def of(cls, run: Run) -> Words:
        device = run.tuned.stack.word_embeddings.weight.device
        ordinary = torch.tensor(run.vocabulary.ordinary, device=device)
        longest = min(run.tuned.stack.max_text, run.max_length)
        return cls(ordinary, run.vocabulary.pad, run.vocabulary.mask, longest)


def mask(batch: Batch, hits: Tensor, words: Words) -> Batch:
    """The mask token in place of each hit."""
    assert words.mask is not None
    return replace(batch, ids=batch.ids.masked_fill(hits, words.mask))


def substitute(batch: Batch, hits: Tensor, words: Words) -> Batch:
    """Any ordinary token in place of each hit."""
    return replace(batch, ids=torch.where(hits, _drawn(batch, words), batch.ids))


def swap(batch: Batch, hits: Tensor, words: Words) -> Batch:
    """Each hit changes places with the user's token to its right; of hits in a row every other one."""
    columns = torch.arange(hits.shape[1], device=hits.device)
    first = torch.zeros_like(hits)
    first[:, :-1] = hits[:, :-1] & batch.perturbable_mask[:, 1:]
    in_row = columns - torch.where(first, -1, columns).cummax(1).values - 1
    first &= in_row % 2 == 0  # no token takes part in two
    order = columns + first.long()
    order[:, 1:] -= first[:, :-1].long()
    return replace(batch, ids=batch.ids.gather(1, order))


def delete(batch: Batch, hits: Tensor, words: Words) -> Batch:
    """Without the hits; where all of a text is hit, its first word stays."""
    first = batch.perturbable_mask & (batch.perturbable_mask.cumsum(1) == 1)
    hits = hits & ~(first & (hits == batch.perturbable_mask).all(1, keepdim=True))
    kept = batch.text_mask & ~hits
    return moved(batch, kept.cumsum(1) - 1, kept, batch.ids.shape[1], words.pad)


def insert(batch: Batch, hits: Tensor, words: Words) -> Batch:
    """Any ordinary token before each hit, as long as the text is not longer than the cell allows."""
    room = words.longest - batch.text_mask.sum(1, keepdim=True)
    hits = hits & (hits.cumsum(1) <= room)
    shift = hits.cumsum(1)
    place = torch.arange(hits.shape[1], device=hits.device) + shift
    width = hits.shape[1] + int(shift[:, -1].max())
    made = moved(batch, place, batch.text_mask, width, words.pad)
    row, column = hits.nonzero(as_tuple=True)
    new = row, place[row, column] - 1
    ids, text, eligible, segments = (
        one.clone() for one in (made.ids, made.text_mask, made.perturbable_mask, made.segments)
    )
    ids[new] = _drawn(batch, words)[row, column]
    text[new], eligible[new] = True, True
    segments[new] = batch.segments[row, column]
    return replace(made, ids=ids, text_mask=text, perturbable_mask=eligible, segments=segments)


OPERATIONS: dict[Operation, Callable[[Batch, Tensor, Words], Batch]] = {
    "mask": mask,
    "delete": delete,
    "swap": swap,
    "replace": substitute,
    "insert": insert,
}


def moved(batch: Batch, place: Tensor, kept: Tensor, width: int, pad: int) -> Batch:
    """Every `kept` [B, T] token at its `place` [B, T] of `width` columns; the answer goes where its token goes."""
    row, column = kept.nonzero(as_tuple=True)
    target = row, place[row, column]

    def at_place(values: Tensor, fill: int) -> Tensor:
        made = values.new_full((len(values), width), fill)
        made[target] = values[row, column]
        return made

    return replace(
        batch,
        ids=at_place(batch.ids, pad),
        text_mask=at_place(batch.text_mask, 0),
        perturbable_mask=at_place(batch.perturbable_mask, 0),
        segments=at_place(batch.segments, 0),
        answer=place.gather(1, batch.answer[:, None])[:, 0],
    )


def widened(batch: Batch, width: int, pad: int) -> Batch:
    """Padded on the right to `width` columns."""
    if batch.ids.shape[1] == width:
        return batch
    columns = torch.arange(batch.ids.shape[1], device=batch.ids.device).expand_as(batch.ids)
    return moved(batch, columns, batch.text_mask, width, pad)


def _drawn(batch: Batch, words: Words) -> Tensor:
    """[B, T]: ordinary tokens, all as likely; a stream of draws apart from that of the hits."""
    draws = uniforms(batch.noise_seeds, batch.ids.shape[1], stream=1)
    return words.ordinary[(draws * len(words.ordinary)).long()]
