"""The edit of deep prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from bench.methods.modules.prompt_encoders import SoftPrompt, in_front, rows_in_front
from bench.models.backbones import EMBEDDINGS
from bench.models.stack import Flow, Stream

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


class EachLayer(nn.Module):
    """An Edit: before layer 0 the first prompt goes in front, before every other its own takes the old one's place."""

    def __init__(self, prompts: list[SoftPrompt]):
        super().__init__()
        self.prompts = nn.ModuleList(prompts)

    def forward(self, depth: int, stream: Stream) -> Stream:
        if depth == EMBEDDINGS:
            return stream
        prompt = self.prompts[depth](stream)
        if depth == 0:
            return in_front(prompt, stream)
        return stream._replace(states=torch.cat([prompt.to(stream.states.dtype), stream.text], 1))

    def count(self, products: Products, depth: int, flow: Flow) -> Flow:
        if depth == EMBEDDINGS:
            return flow
        prompt = self.prompts[depth].count(products, flow)  # pyright: ignore -- a SoftPrompt
        if depth == 0:
            return rows_in_front(prompt, flow)
        return replace(flow, tracked=flow.tracked or prompt.tracked)
