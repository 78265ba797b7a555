"""The Llama-like, with rotary positions: Llama, Mistral, Qwen2, Qwen3, Gemma."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from bench.core.settings import Unsupported
from bench.models.stack.decoder import Decoder
from bench.models.stack.stack import AdapterSite, parts
from bench.models.stack.stream import Batch, KeysValues, Stream, at


class Llama(Decoder):
    @property
    def key_value_shape(self) -> tuple[int, int]:
        config = self.config
        width = getattr(config, "head_dim", None) or self.hidden // config.num_attention_heads
        return config.num_key_value_heads, width

    @property
    def word_embeddings(self) -> nn.Embedding:
        return self.backbone.model.embed_tokens

    @property
    def layers(self) -> nn.ModuleList:
        return self.backbone.model.layers

    @property
    def pre_layer_modules(self) -> Iterable[nn.Module]:
        return []

    def _apply(self, fn: Any, recurse: bool = True) -> Llama:
        """As for any module, but for the frequencies of the rotations: in bf16 position 300 is off by 0.37 radian.

        transformers and DeepSpeed 0.19.8 keep buffers in fp32, too; torch's own conversions do not.
        """
        rotary = self.backbone.model.rotary_emb
        exact = dict(rotary.named_buffers())
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            setattr(rotary, name, buffer.to(getattr(rotary, name).device))
        return self

    def add_positions(self, words: Tensor, batch: Batch) -> Tensor:
        return words

    def context(self, stream: Stream) -> Any:
        """Per kind of attention its mask; and the rotations, of which the prompt has -P..-1.

        A sliding window does not hide the prompt: a late prompt that the answer cannot see would do nothing.
        Unsupported where flash-attn would: its windows have no exceptions.
        """
        if stream.prompt_tokens and "sliding_attention" in self.kinds and "flash" in self.config._attn_implementation:
            raise Unsupported("attention: the sliding windows of flash_attention_2 hide prompts")
        length = stream.states.shape[1]
        positions = torch.arange(length, device=stream.states.device)[None] - stream.prompt_tokens
        masks = {
            kind: make(
                config=self.config,
                inputs_embeds=stream.states,
                attention_mask=stream.mask,
                past_key_values=None,
                position_ids=positions,
                or_mask_function=_sees_prompt(stream.prompt_tokens) if kind == "sliding_attention" else None,
            )
            for kind, make in MASKS.items()
            if kind in self.kinds
        }
        rotations = self.backbone.model.rotary_emb(stream.states, position_ids=positions)
        return masks, rotations, positions

    @property
    def kinds(self) -> list[str]:
        """The kind of attention of each layer."""
        named = getattr(self.config, "layer_types", None)
        if named is not None:
            return named
        sliding = getattr(self.config, "sliding_window", None) is not None
        return ["sliding_attention" if sliding else "full_attention"] * len(self.layers)

    def layer(self, depth: int, states: Tensor, context: Any, **options: Any) -> Tensor:
        masks, rotations, positions = context
        return self.layers[depth](
            states,
            attention_mask=masks[self.kinds[depth]],
            position_embeddings=rotations,
            position_ids=positions,
            **options,
        )

    def keys_values(self, depth: int, states: Tensor, context: Any) -> KeysValues:
        _, rotations, _ = context
        layer: Any = self.layers[depth]
        attention, read = layer.self_attn, layer.input_layernorm(states)
        keys, values = self.heads(attention.k_proj(read)), self.heads(attention.v_proj(read))
        for norm in parts(attention, "k_norm"):  # Qwen3
            keys = norm(keys)
        own: Any = sys.modules[type(attention).__module__]  # where rotations are a function of each architecture
        return own.apply_rotary_pos_emb(keys, keys, *rotations)[1], values

    def context_at(self, positions: Tensor, context: Any, tokens: int) -> Any:
        masks, rotations, places = context
        rows = {kind: super(Llama, self).context_at(positions, mask, tokens) for kind, mask in masks.items()}
        turned = tuple(at(one.expand(len(positions), -1, -1), positions)[:, None] for one in rotations)
        return rows, turned, at(places.expand(len(positions), -1), positions)[:, None]

    def final_norm(self, states: Tensor) -> Tensor:
        return self.backbone.model.norm(states)

    def site(self, layer: Any) -> AdapterSite:
        return AdapterSite(layer.self_attn.o_proj, layer.mlp, None, layer)


def _sees_prompt(prompt_tokens: int) -> Callable[..., Any] | None:
    """For a mask: every position sees the prompt tokens before it."""
    if prompt_tokens == 0:
        return None

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key < prompt_tokens) & (key <= query)

    return sees


MASKS = {"full_attention": create_causal_mask, "sliding_attention": create_sliding_window_causal_mask}
