"""Prefix tuning, P-tuning v2: keys and values of its own for every layer.

Li and Liang 2021, arXiv 2101.00190; Liu et al. 2022, arXiv 2110.07602.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import nn

from bench.methods.base import Attachment, Method, Recipe
from bench.methods.prompt_encoders import hidden_dropout
from bench.models.stack import Flow, Rows, Stack, Stream
from bench.models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


class PrefixTuning(Method):
    """As THUDM/P-tuning-v2 (model/prefix_encoder.py): P rows of 2 L keys and values from N(0, 1), with dropout.

    There and in peft the text's positions begin at P, since the prefix counts as past; here the text keeps its own,
    so that no position is lost. With `projection` the rows come from P vectors through an MLP, as in prefix tuning.
    Length 20 is what LPT's parameter table implies for its baseline; the learning rate is that of RTE there.
    """

    source = "Liu et al. 2022, arXiv 2110.07602; Li and Liang 2021"
    kind: Literal["prefix_tuning"] = "prefix_tuning"
    length: int = Field(default=20, ge=1)
    projection: bool = False
    bottleneck: int = Field(default=512, ge=1)  # of the projection
    recipe: Recipe = Recipe(learning_rate=5e-3, warmup=0)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        stack.accept_keys_values()
        bottleneck = self.bottleneck if self.projection else None
        prefixes = Prefixes(self.length, stack, bottleneck)
        return Attachment(0, nn.ModuleList([prefixes]))


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
