"""GPT-2: learned positions, weights kept transposed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bench.models.stack.decoder import Decoder
from bench.models.stack.stack import AdapterSite
from bench.models.stack.stream import Batch, KeysValues


class Gpt2(Decoder):
    @property
    def word_embeddings(self) -> nn.Embedding:
        return self.backbone.transformer.wte

    @property
    def layers(self) -> nn.ModuleList:
        return self.backbone.transformer.h

    @property
    def pre_layer_modules(self) -> Iterable[nn.Module]:
        return [self.backbone.transformer.wpe, self.backbone.transformer.drop]

    def add_positions(self, words: Tensor, batch: Batch) -> Tensor:
        positions = torch.arange(words.shape[1], device=words.device)[None]
        return self.backbone.transformer.drop(words + self.backbone.transformer.wpe(positions))

    def layer(self, depth: int, states: Tensor, context: Any, **options: Any) -> Tensor:
        return self.layers[depth](states, None, context, use_cache=False, **options)

    def keys_values(self, depth: int, states: Tensor, context: Any) -> KeysValues:
        layer: Any = self.layers[depth]
        _, keys, values = layer.attn.c_attn(layer.ln_1(states)).split(self.hidden, -1)
        return self.heads(keys), self.heads(values)

    def final_norm(self, states: Tensor) -> Tensor:
        return self.backbone.transformer.ln_f(states)

    def site(self, layer: Any) -> AdapterSite:
        return AdapterSite(layer.attn.resid_dropout, layer.mlp, None, layer)
