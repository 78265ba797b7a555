"""Deep prompts: free vectors in front of the input of every layer (Jia et al. 2022, arXiv 2203.12119)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import nn

from bench.methods.base import Attachment, Method, Recipe
from bench.methods.prompt_encoders import SoftPrompt, in_front, rows_in_front
from bench.models.stack import EMBEDDINGS, Flow, Stack, Stream
from bench.models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from bench.models.stack.flop_counting import Products


class DeepPrompts(Method):
    """The hidden-state form, as VPT-Deep: each layer's prompt takes the place of what the layer below made of its own.

    P-tuning v2 gives keys and values instead: that is `prefix_tuning`. Qin and Eisner (2021, arXiv 2104.06599) add to
    what the layer below made. Recipe and initial scale are ours.
    """

    source = "VPT-Deep: Jia et al. 2022, arXiv 2203.12119"
    kind: Literal["deep_prompts"] = "deep_prompts"
    length: int = Field(default=20, ge=1)
    scale: float = Field(default=0.5, gt=0)  # standard deviation of the initial prompts
    recipe: Recipe = Recipe(learning_rate=5e-3)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        prompts = [SoftPrompt.normal(self.length, stack.hidden, self.scale) for _ in stack.layers]
        return Attachment(0, nn.ModuleList([EachLayer(prompts)]))


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
