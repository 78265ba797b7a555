"""OPT: learned positions; in the 350M model narrow word embeddings, and norms behind attention and feed-forward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bench.models.stack.decoder import Decoder
from bench.models.stack.stack import AdapterSite, parts
from bench.models.stack.stream import Batch, KeysValues


class Opt(Decoder):
    @property
    def base(self) -> Any:
        return self.backbone.model.decoder

    @property
    def word_embeddings(self) -> nn.Embedding:
        return self.base.embed_tokens

    @property
    def layers(self) -> nn.ModuleList:
        return self.base.layers

    @property
    def pre_layer_modules(self) -> Iterable[nn.Module]:
        return [self.base.embed_positions, *parts(self.base, "project_in")]

    def add_positions(self, words: Tensor, batch: Batch) -> Tensor:
        positions = torch.arange(words.shape[1], device=words.device)[None]
        wide = words if self.base.project_in is None else self.base.project_in(words)
        return wide + self.base.embed_positions(batch.text_mask, 0, position_ids=positions)

    def layer(self, depth: int, states: Tensor, context: Any, **options: Any) -> Tensor:
        return self.layers[depth](states, attention_mask=context, **options)

    def keys_values(self, depth: int, states: Tensor, context: Any) -> KeysValues:
        layer: Any = self.layers[depth]
        read = layer.self_attn_layer_norm(states) if layer.do_layer_norm_before else states
        return self.heads(layer.self_attn.k_proj(read)), self.heads(layer.self_attn.v_proj(read))

    def final_norm(self, states: Tensor) -> Tensor:
        return states if self.base.final_layer_norm is None else self.base.final_layer_norm(states)

    @property
    def vocabulary_head(self) -> list[nn.Module]:
        return [*super().vocabulary_head, *parts(self.base, "project_out")]

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        narrow = states if self.base.project_out is None else self.base.project_out(states)
        return super().vocabulary_logits(narrow)

    def site(self, layer: Any) -> AdapterSite:
        """Adapters act before the layer's dropout, which is no module here."""
        norm = None if layer.do_layer_norm_before else layer.final_layer_norm
        return AdapterSite(layer.self_attn.out_proj, layer.fc2, norm, layer)
