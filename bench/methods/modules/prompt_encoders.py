"""Where prompts come from, and Insert, which puts one in front of everything at one depth.

A source maps the Stream entering the insertion layer to a prompt [B, P, H]. Generators follow LPT's code
(xyltt/LPT, encoder-only/models/modeling_roberta.py:64-123); adaptive pooling is vectorised instead of looped over
the examples, and dropout is the backbone's hidden dropout, as there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from bench.models.stack import Flow, Rows, Stack, Stream, at
from bench.models.stack.operation_counter import shape

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


class SoftPrompt(nn.Module):
    """The same P vectors for every example, beginning as `start` [P, H]."""

    def __init__(self, start: Tensor):
        super().__init__()
        self.prompt = nn.Parameter(start)

    @classmethod
    def normal(cls, length: int, hidden: int, scale: float) -> SoftPrompt:
        """Beginning as N(0, scale^2)."""
        return cls(torch.randn(length, hidden) * scale)

    def forward(self, stream: Stream) -> Tensor:
        return self.prompt.expand(len(stream.states), -1, -1)

    def count(self, products: Products, flow: Flow) -> Rows:
        length, hidden = shape(self.prompt)
        return Rows(flow.examples * length, hidden, products.tally.recording and products.tally.trains(self.prompt))


class Naive(nn.Module):
    """NPG: `W2 relu(W1 h + b1) + b2` reshaped to [B, P, H]; h is the first token in encoders, the last in decoders."""

    def __init__(self, length: int, hidden: int, bottleneck: int, dropout: float, causal: bool):
        super().__init__()
        self.length, self.causal = length, causal
        self.down = nn.Linear(hidden, bottleneck)
        self.up = nn.Linear(bottleneck, length * hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, stream: Stream) -> Tensor:
        prompt = self.up(torch.relu(self.down(sentence(stream, self.causal))))
        return self.dropout(prompt.view(len(prompt), self.length, -1))

    def count(self, products: Products, flow: Flow) -> Rows:
        made = products.chain([self.down, self.up], Rows(flow.examples, products.hidden, flow.tracked))
        return Rows(made.length * self.length, products.hidden, made.tracked)


class Pooling(nn.Module):
    """MPPG and APPG: `W2 relu(pool_P(W1 h_i + b1)) + b2`, pooled over the real tokens into P bins."""

    def __init__(self, length: int, hidden: int, bottleneck: int, dropout: float, pool: Literal["max", "average"]):
        super().__init__()
        self.length = length
        self.pool: Literal["max", "average"] = pool
        self.down = nn.Linear(hidden, bottleneck)
        self.up = nn.Linear(bottleneck, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, stream: Stream) -> Tensor:
        mask = stream.mask[:, stream.prompt_tokens :]
        pooled = adaptive_pool(self.down(stream.text), mask, self.length, self.pool)
        return self.dropout(self.up(torch.relu(pooled)))

    def count(self, products: Products, flow: Flow) -> Rows:
        tokens = flow.tokens - flow.prompt_tokens
        down = products.apply(self.down, Rows(flow.examples * tokens, products.hidden, flow.tracked))
        pooled = Rows(flow.examples * self.length, down.features, down.tracked)
        if self.pool == "average":  # is a product with the weights of the bins
            products.tally.product(pooled.length * tokens * pooled.features, pooled.tracked)
        return products.apply(self.up, pooled)


def adaptive_pool(states: Tensor, mask: Tensor, bins: int, pool: Literal["max", "average"]) -> Tensor:
    """[B, T, H] over the real tokens of `mask` [B, T] -> [B, bins, H], as `nn.Adaptive*Pool1d` example by example.

    Bin i of n real tokens is floor(i n / bins) .. ceil((i + 1) n / bins), which never is empty.
    """
    lengths = mask.sum(1)[:, None]  # [B, 1]
    index = torch.arange(bins, device=states.device)[None]  # [1, bins]
    start = (index * lengths) // bins  # [B, bins]
    end = -((-(index + 1) * lengths) // bins)
    position = torch.arange(states.shape[1], device=states.device)[None, None]
    inside = (position >= start[..., None]) & (position < end[..., None])  # [B, bins, T]
    if pool == "average":
        weights = inside.to(states.dtype)
        return (weights / weights.sum(-1, keepdim=True)) @ states
    spread = states[:, None].masked_fill(~inside[..., None], float("-inf"))  # [B, bins, T, H]
    return spread.amax(2)


def sentence(stream: Stream, causal: bool) -> Tensor:
    """[B, H]: the state of the token that has seen the whole text: the first in encoders, the last in decoders."""
    if not causal:
        return stream.text[:, 0]
    return at(stream.text, stream.mask.sum(1) - stream.prompt_tokens - 1)  # all prompt positions are in the mask


class Insert(nn.Module):
    """An Edit: at `depth`, the source's prompt goes in front of the stream, before `<s>` or BOS.

    As in LPT's code, the text keeps its positions and the prompt is visible to every token.
    """

    def __init__(self, source: nn.Module, depth: int):
        super().__init__()
        self.source, self.depth = source, depth

    def forward(self, depth: int, stream: Stream) -> Stream:
        if depth != self.depth:
            return stream
        return in_front(self.source(stream), stream)

    def count(self, products: Products, depth: int, flow: Flow) -> Flow:
        if depth != self.depth:
            return flow
        return rows_in_front(self.source.count(products, flow), flow)  # pyright: ignore -- every source has it


def in_front(prompt: Tensor, stream: Stream) -> Stream:
    """The stream with `prompt` [B, P, H] before all it has."""
    visible = stream.mask.new_ones(prompt.shape[:2])
    return stream._replace(
        states=torch.cat([prompt.to(stream.states.dtype), stream.states], 1),
        mask=torch.cat([visible, stream.mask], 1),
        prompt_tokens=stream.prompt_tokens + prompt.shape[1],
    )


def rows_in_front(prompt: Rows, flow: Flow) -> Flow:
    """As `in_front`, of shapes."""
    length = prompt.length // flow.examples
    return replace(
        flow,
        tokens=flow.tokens + length,
        prompt_tokens=flow.prompt_tokens + length,
        tracked=flow.tracked or prompt.tracked,
    )


def hidden_dropout(stack: Stack) -> float:
    """The dropout of the backbone's hidden states, by whatever name its family has for it."""
    names = ("hidden_dropout_prob", "embd_pdrop", "dropout_rate", "dropout")
    return next((getattr(stack.config, name) for name in names if hasattr(stack.config, name)), 0.0)
