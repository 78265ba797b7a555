"""ALBERT: narrow word embeddings, and one layer's weights in all layers."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from bench.models.stack.bert import Bert
from bench.models.stack.stack import AdapterSite, parts
from bench.models.stack.stream import Batch


class Albert(Bert):
    """Each layer is a module of its own on the shared weights, so that methods can tell one depth from another.

    What a method adds (LoRA, adapters) is therefore per layer, where peft on an ALBERT as it is loaded would share it.
    It stays the backbone transformers knows: `num_hidden_groups` becomes the number of layers.
    """

    def __init__(self, backbone: Any):
        encoder, config = backbone.base_model.encoder, backbone.config
        if config.inner_group_num != 1:
            raise ValueError(f"backbone: inner_group_num is {config.inner_group_num}, expected 1")
        groups, layers = encoder.albert_layer_groups, config.num_hidden_layers
        per_group = layers / len(groups)
        encoder.albert_layer_groups = nn.ModuleList(
            _on_the_same_weights(groups[int(i / per_group)]) for i in range(layers)
        )
        config.num_hidden_groups = layers
        super().__init__(backbone)

    @property
    def layers(self) -> nn.ModuleList:
        return self.base.encoder.albert_layer_groups

    @property
    def pre_layer_modules(self) -> Iterable[nn.Module]:
        return [self.base.embeddings, self.base.encoder.embedding_hidden_mapping_in]

    def add_positions(self, words: Tensor, batch: Batch) -> Tensor:
        return self.base.encoder.embedding_hidden_mapping_in(super().add_positions(words, batch))

    def attention(self, layer: Any) -> Any:
        return layer.albert_layers[0].attention

    @property
    def vocabulary_head(self) -> list[nn.Module]:
        return parts(self.backbone, "predictions")

    def vocabulary_logits(self, states: Tensor) -> Tensor:
        return self.backbone.predictions(states)

    def site(self, layer: Any) -> AdapterSite:
        (inner,) = layer.albert_layers
        return AdapterSite(inner.attention.output_dropout, inner.ffn_output, inner.full_layer_layer_norm, inner)


def _on_the_same_weights(module: nn.Module) -> nn.Module:
    """A copy of the modules on the same parameters, buffers and configuration."""
    configs = [part.config for part in module.modules() if hasattr(part, "config")]
    kept = [*module.parameters(), *module.buffers(), *configs]
    return copy.deepcopy(module, memo={id(one): one for one in kept})
