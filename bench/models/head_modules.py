"""Heads as modules: what turns the states of the last layer into scores of the classes, and what the loss is over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.models.stack import Batch, Flow, Rows, Stack, Stream

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


class Head(nn.Module, ABC):
    """`logits` are what the loss is taken over; `scores` [B, C] are what is predicted from."""

    reads_vocabulary: bool = False  # through the backbone's LM head

    @abstractmethod
    def position(self, stack: Stack, batch: Batch) -> Tensor | None:
        """[B]: the position of the text that `logits` reads; None: all."""

    @abstractmethod
    def logits(self, stack: Stack, stream: Stream, batch: Batch) -> Tensor:
        """From what leaves the last layer at `position`."""

    @abstractmethod
    def count(self, products: Products, flow: Flow) -> Rows:
        """As `logits`, of shapes."""

    def targets(self, batch: Batch) -> Tensor:
        """[B]: the index into `logits` of each example's class."""
        return batch.labels

    def scores(self, logits: Tensor) -> Tensor:
        return logits


class AnswerWordsHead(Head):
    reads_vocabulary = True

    def __init__(self, answer_ids: list[int], restricted: bool):
        super().__init__()
        self.restricted = restricted
        self.register_buffer("answer_ids", torch.tensor(answer_ids), persistent=False)

    def position(self, stack: Stack, batch: Batch) -> Tensor | None:
        return stack.answer_position(batch)

    def logits(self, stack: Stack, stream: Stream, batch: Batch) -> Tensor:
        """[B, V], or [B, C] when the loss is over the answer words."""
        logits = stack.vocabulary_logits(stack.answer(stream))
        return logits[:, self.ids] if self.restricted else logits

    def count(self, products: Products, flow: Flow) -> Rows:
        return products.vocabulary_logits(products.answer(flow))

    @property
    def ids(self) -> Tensor:
        return self.get_buffer("answer_ids")

    def targets(self, batch: Batch) -> Tensor:
        return batch.labels if self.restricted else self.ids[batch.labels]

    def scores(self, logits: Tensor) -> Tensor:
        return logits if self.restricted else logits[:, self.ids]


class LinearHead(Head):
    def __init__(self, hidden: int, classes: int, pooling: str):
        super().__init__()
        self.pooling = pooling
        self.linear = nn.Linear(hidden, classes)

    def position(self, stack: Stack, batch: Batch) -> Tensor | None:
        if self.pooling == "mean":
            return None
        if self.pooling == "answer":
            return stack.answer_position(batch)
        last = batch.text_mask.sum(1) - 1
        return last if self.pooling == "last" else torch.zeros_like(last)

    def logits(self, stack: Stack, stream: Stream, batch: Batch) -> Tensor:
        """[B, C], from the text's states only: prompts are not pooled."""
        if self.pooling == "mean":
            mask = batch.text_mask[..., None]
            states = stack.final_norm(stream.text)
            pooled = (states * mask).sum(1) / mask.sum(1)
        elif self.pooling == "answer":
            pooled = stack.answer(stream)
        else:
            pooled = stack.final_norm(stream.text[:, 0])
        return self.linear(pooled)

    def count(self, products: Products, flow: Flow) -> Rows:
        if self.pooling == "answer":
            return products.apply(self.linear, products.answer(flow))
        read = products.final_norm(Rows(flow.examples, products.hidden, flow.tracked))
        return products.apply(self.linear, read)
