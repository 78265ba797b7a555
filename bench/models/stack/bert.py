"""BERT and RoBERTa: learned positions, norm before layer 0, masked-LM head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

from bench.models.stack.stack import AdapterSite, Stack, parts
from bench.models.stack.stream import Batch, KeysValues, Stream


class Bert(Stack):
    headless_options = {"add_pooling_layer": False}

    @property
    def base(self) -> Any:
        """The encoder without its head, also where the checkpoint has no head."""
        return self.backbone.base_model

    @property
    def word_embeddings(self) -> nn.Embedding:
        return self.base.embeddings.word_embeddings

    @property
    def layers(self) -> nn.ModuleList:
        return self.base.encoder.layer

    @property
    def pre_layer_modules(self) -> Iterable[nn.Module]:
        return [self.base.embeddings]

    def positions(self, batch: Batch) -> Tensor:
        """[B, T] or [1, T]: indices into the position embeddings."""
        return torch.arange(batch.ids.shape[1], device=batch.ids.device)[None]

    def add_positions(self, words: Tensor, batch: Batch) -> Tensor:
        segments = batch.segments if self.config.type_vocab_size > 1 else torch.zeros_like(batch.segments)
        return self.base.embeddings(inputs_embeds=words, token_type_ids=segments, position_ids=self.positions(batch))

    def context(self, stream: Stream) -> Any:
        return create_bidirectional_mask(config=self.config, inputs_embeds=stream.states, attention_mask=stream.mask)

    def layer(self, depth: int, states: Tensor, context: Any, **options: Any) -> Tensor:
        return self.layers[depth](states, context, **options)

    def attention(self, layer: Any) -> Any:
        """The module with the projections to keys and values."""
        return layer.attention.self

    def keys_values(self, depth: int, states: Tensor, context: Any) -> KeysValues | None:
        attention = self.attention(self.layers[depth])
        return self.heads(attention.key(states)), self.heads(attention.value(states))

    def final_norm(self, states: Tensor) -> Tensor:
        return states

    @property
    def vocabulary_head(self) -> list[nn.Module]:
        return parts(self.backbone, "cls")

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        return self.backbone.cls(states)

    def site(self, layer: Any) -> AdapterSite:
        return AdapterSite(layer.attention.output.dropout, layer.output.dropout, layer.output.LayerNorm, layer)


class Roberta(Bert):
    """Positions start behind the padding id; padding keeps the padding id's."""

    @property
    def max_text(self) -> int:
        return super().max_text - self.config.pad_token_id - 1

    def positions(self, batch: Batch) -> Tensor:
        real = batch.text_mask.long()
        return real.cumsum(1) * real + self.config.pad_token_id

    @property
    def vocabulary_head(self) -> list[nn.Module]:
        return parts(self.backbone, "lm_head")

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        return self.backbone.lm_head(states)
