"""What the decoders share: a causal mask, and the LM head beside the model."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask

from bench.models.stack.stack import Stack
from bench.models.stack.stream import Stream


class Decoder(Stack):
    form = "causal"

    def context(self, stream: Stream) -> Any:
        return create_causal_mask(
            config=self.config,
            inputs_embeds=stream.states,
            attention_mask=stream.mask,
            past_key_values=None,
        )

    @property
    def vocabulary_head(self) -> list[nn.Module]:
        return [self.backbone.lm_head]

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        return self.backbone.lm_head(states)
