"""The last layer where one position of the text is read: it runs as a decoder's does when it generates.

The layer is called on that position alone, so that queries, residuals, norms and the feed-forward are one row per
example; its attention is given the keys and values of all positions in place of the row's own.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from bench.models.stack.stream import KeysValues, at

DENSE = ("sdpa", "eager")  # the backends whose masks have a row for each query


class Layers(Protocol):
    """What a Stack has of its layers; see Stack."""

    @property
    def attention_config(self) -> Any: ...
    def layer(self, depth: int, states: Tensor, context: Any, **options: Any) -> Tensor: ...
    def keys_values(self, depth: int, states: Tensor, context: Any) -> KeysValues | None: ...
    def context_at(self, positions: Tensor, context: Any, tokens: int) -> Any: ...
    def accept_keys_values(self) -> None: ...


def layer_at(stack: Layers, positions: Tensor, depth: int, states: Tensor, context: Any, **options: Any) -> Tensor:
    """[B, 1, H]: what layer `depth` gives at `positions` [B], to rounding.

    It runs whole where it takes no keys from outside.
    """
    dense = stack.attention_config._attn_implementation.endswith(DENSE)
    given = stack.keys_values(depth, states, context) if dense else None
    if given is None:
        return at(stack.layer(depth, states, context, **options), positions)[:, None]
    stack.accept_keys_values()
    row, context = at(states, positions)[:, None], stack.context_at(positions, context, states.shape[1])
    return stack.layer(depth, row, context, keys_values=given, **options)


def mask_at(positions: Tensor, mask: Tensor | None, tokens: int, causal: bool) -> Tensor | None:
    """[B, 1, 1, S]: the rows of `mask` [B, 1, S, S] at `positions` [B]; None hides the future, if anything."""
    if mask is not None:
        return at(mask[:, 0], positions)[:, None, None]
    if not causal:
        return None
    return (torch.arange(tokens, device=positions.device) <= positions[:, None])[:, None, None]
