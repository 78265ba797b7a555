"""The edit of prefix tuning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from bench.methods.modules.prompt_encoders import hidden_dropout
from bench.models.stack import Flow, Rows, Stack, Stream

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


class Prefixes(nn.Module):
    """An Edit: before layer 0, the keys and values of all layers."""

    def __init__(self, length: int, stack: Stack, bottleneck: int | None):
        super().__init__()
        self.shape = (2 * len(stack.layers), *stack.key_value_shape)
        size = self.shape[0] * self.shape[1] * self.shape[2]
        self.rows = nn.Embedding(length, size if bottleneck is None else stack.hidden)
        self.projection = nn.Sequential()
        if bottleneck is not None:
            self.projection.extend([nn.Linear(stack.hidden, bottleneck), nn.Tanh(), nn.Linear(bottleneck, size)])
        self.dropout = nn.Dropout(hidden_dropout(stack))

    def forward(self, depth: int, stream: Stream) -> Stream:
        if depth != 0:
            return stream
        rows = self.projection(self.rows(torch.arange(self.rows.num_embeddings, device=stream.states.device)))
        each = self.dropout(rows.view(len(rows), *self.shape)).unbind(1)  # 2 L of [P, heads, head dimension]
        return stream._replace(prefixes=tuple(zip(each[::2], each[1::2], strict=True)))

    def count(self, products: Products, depth: int, flow: Flow) -> Flow:
        if depth != 0:
            return flow
        length = self.rows.num_embeddings
        made = products.chain([self.rows, self.projection], Rows(length, self.rows.embedding_dim))
        return replace(flow, prefix_tokens=length, prefix_tracked=made.tracked)
