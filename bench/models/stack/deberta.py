"""DeBERTa-v2 and v3: positions relative to each other inside the attention, of which a prompt has -P..-1."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from bench.models.stack.bert import Bert
from bench.models.stack.stack import UNLIMITED, parts
from bench.models.stack.stream import Batch, Prefix, Stream


class Deberta(Bert):
    """A prefix takes part as if it stood at -P..-1: its rows go through the layer and are dropped behind it.

    Attention here has no backend to hand keys to, and its bias is not written for more keys than queries.
    """

    headless_options = {}
    variants = ({}, {"legacy": False})  # v3's checkpoints have the new LM head, their configs do not say so

    @property
    def pre_layer_modules(self) -> Iterable[nn.Module]:
        return [self.base.embeddings, *parts(self.base.encoder, "rel_embeddings", "LayerNorm")]

    def add_positions(self, words: Tensor, batch: Batch) -> Tensor:
        return self.base.embeddings(inputs_embeds=words, token_type_ids=batch.segments, mask=batch.text_mask)

    def context(self, stream: Stream) -> Any:
        """The mask, which token stands where, and the embeddings of the distances."""
        return stream.mask, self.base.encoder.get_rel_pos(stream.states), self._distances()

    def _distances(self) -> Tensor | None:
        """As `get_rel_embedding`, by calling the module: ZeRO-3 gathers what is called."""
        encoder = self.base.encoder
        if not encoder.relative_attention:
            return None
        table = encoder.rel_embeddings
        rows = table(torch.arange(table.num_embeddings, device=table.weight.device))
        return encoder.LayerNorm(rows) if "layer_norm" in encoder.norm_rel_ebd else rows

    def layer(self, depth: int, states: Tensor, context: Any, prefix: Prefix | None = None, **options: Any) -> Tensor:
        mask, positions, distances = context
        tokens = 0 if prefix is None else len(prefix[0])
        rows = states
        if prefix is not None:
            rows = torch.cat([states.new_zeros(len(states), tokens, self.hidden), states], 1)
            mask = torch.cat([mask.new_ones(len(mask), tokens), mask], 1)
            positions = self.base.encoder.get_rel_pos(rows)
        layer: Any = self.layers[depth]
        with _in_place_of_first_rows(layer.attention.self, prefix):
            wide = self.base.encoder.get_attention_mask(mask)
            out = layer(rows, wide, relative_pos=positions, rel_embeddings=distances, **options)[0]
        if depth == 0 and self.base.encoder.conv is not None:
            out = self.base.encoder.conv(rows, out, mask.to(rows.dtype))
        return out[:, tokens:]

    def lower_part(self, depth: int) -> list[nn.Module]:
        conv = parts(self.base.encoder, "conv") if depth > 0 else []  # it belongs to layer 0
        return [*super().lower_part(depth), *conv]

    def accept_keys_values(self) -> None:
        pass

    def keys_values(self, depth: int, states: Tensor, context: Any) -> None:
        return None

    @property
    def closed_layers(self) -> Iterable[nn.Module]:
        return self.layers

    @property
    def vocabulary_head(self) -> list[nn.Module]:
        return parts(self.backbone, "cls" if self.config.legacy else "lm_predictions")

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        if self.config.legacy:
            return self.backbone.cls(states)
        words: Any = self.word_embeddings
        if hasattr(words.weight, "ds_id"):  # the head reads the weight itself: ZeRO-3 gathers what is called
            every = torch.arange(words.num_embeddings, device=states.device)
            words = SimpleNamespace(weight=words(every))
        return self.backbone.lm_predictions(states, words)

    @property
    def max_text(self) -> int:
        return super().max_text if self.config.position_biased_input else UNLIMITED


@contextlib.contextmanager
def _in_place_of_first_rows(attention: Any, prefix: Prefix | None) -> Generator[None, None, None]:
    """The first P rows of the next keys and values are the prefix's."""
    with contextlib.ExitStack() as hooks:
        for module, rows in zip((attention.key_proj, attention.value_proj), prefix or (), strict=False):
            hooks.enter_context(_first_rows(module, rows))
        yield


@contextlib.contextmanager
def _first_rows(module: nn.Module, prefix: Tensor) -> Generator[None, None, None]:
    def replace(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        handle.remove()  # the embeddings of distances may go through the same projection next
        rows = prefix.flatten(1).expand(len(output), -1, -1).to(output.dtype)
        return torch.cat([rows, output[:, len(prefix) :]], 1)

    handle = module.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()
