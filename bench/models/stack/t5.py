"""T5, an encoder-decoder: the layers are the encoder's, the answer is at the decoder's first position."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

from bench.models.stack.stack import UNLIMITED, AdapterSite, Stack
from bench.models.stack.stream import Batch, Stream


class T5(Stack):
    """Prompts and prefixes act in the encoder, where positions are relative: a prompt has -P..-1.

    The decoder reads all of the encoder's states, the prompt's too, and runs after the last layer.
    """

    form = "encoder_decoder"

    @property
    def encoder(self) -> Any:
        return self.backbone.encoder

    @property
    def attention_config(self) -> Any:
        return self.encoder.config

    @property
    def max_text(self) -> int:
        return UNLIMITED

    @property
    def key_value_shape(self) -> tuple[int, int]:
        return self.config.num_heads, self.config.d_kv

    @property
    def word_embeddings(self) -> nn.Embedding:
        return self.backbone.shared

    @property
    def layers(self) -> nn.ModuleList:
        return self.encoder.block

    @property
    def pre_layer_modules(self) -> Iterable[nn.Module]:
        return [self.encoder.dropout]

    def add_positions(self, words: Tensor, batch: Batch) -> Tensor:
        return self.encoder.dropout(words)

    def context(self, stream: Stream) -> Any:
        """The mask, and the bias of relative positions, which all layers take from the first."""
        states = stream.states
        mask = create_bidirectional_mask(
            config=self.encoder.config,
            inputs_embeds=states,
            attention_mask=stream.mask,
        )
        first: Any = self.layers[0]
        length = states.shape[1]
        return mask, first.layer[0].SelfAttention.compute_bias(length, length, device=states.device)

    @property
    def closed_layers(self) -> Iterable[nn.Module]:
        return self.layers[1:]

    def layer(self, depth: int, states: Tensor, context: Any, **options: Any) -> Tensor:
        return self.layers[depth](states, *context, **options)[0]

    def final_norm(self, states: Tensor) -> Tensor:
        states = self.encoder.final_layer_norm(states)
        return nn.functional.dropout(states, self.config.dropout_rate, self.training)

    def answer_position(self, batch: Batch) -> None:
        return None

    def answer(self, stream: Stream) -> Tensor:
        start = torch.full_like(stream.mask[:, :1], self.config.decoder_start_token_id, dtype=torch.long)
        decoded = self.backbone.decoder(
            input_ids=start,
            encoder_hidden_states=self.final_norm(stream.states),
            encoder_attention_mask=stream.mask,
            use_cache=False,
        )
        return decoded.last_hidden_state[:, 0]

    @property
    def vocabulary_head(self) -> list[nn.Module]:
        return [self.backbone.lm_head]

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        if self.config.scale_decoder_outputs:
            states = states * self.config.d_model**-0.5
        return self.backbone.lm_head(states)

    def site(self, layer: Any) -> AdapterSite:
        return AdapterSite(layer.layer[0].dropout, layer.layer[-1].dropout, None, layer)

    @property
    def sites(self) -> list[AdapterSite]:
        """Of the encoder's layers, then of the decoder's."""
        return [*super().sites, *map(self.site, self.backbone.decoder.block)]
