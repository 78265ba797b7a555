"""Keys and values from outside, in front of those of the text or in their place, for any of transformers' backends.

The layers of transformers hand keyword arguments they do not know on to the backend of their attention, so a `prefix`
or `keys_values` given to a layer arrive here, behind the projections and rotations: a prefix is seen by every token
and has no position.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bench.models.stack.stream import KeysValues, Prefix

MARK = "prefixed_"


def enable(config: Any) -> None:
    """Lets the attention of the backbone with this `config` take them, on the backend it has."""
    backend: str = config._attn_implementation
    if backend.startswith(MARK):
        return
    AttentionInterface.register(MARK + backend, _prefixed(backend))
    AttentionMaskInterface.register(MARK + backend, ALL_MASK_ATTENTION_FUNCTIONS[backend])
    config._attn_implementation = MARK + backend


def _prefixed(backend: str) -> Callable[..., Any]:
    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        keys_values: KeysValues | None = None,
        prefix: Prefix | None = None,
        **options: Any,
    ) -> Any:
        own: Any = sys.modules[type(module).__module__]  # where eager attention is a function of each architecture
        function = ALL_ATTENTION_FUNCTIONS.get_interface(backend, own.eager_attention_forward)
        key, value = keys_values or (key, value)
        if prefix is None:
            return function(module, query, key, value, attention_mask, **options)
        mask = _whole_mask(module, query, attention_mask, backend)
        bias = options.get("position_bias")
        if bias is not None:  # a relative position is what the prefix does not have
            options["position_bias"] = nn.functional.pad(bias, (len(prefix[0]), 0))
        mask = None if mask is None else _widen(mask, len(prefix[0]))
        key, value = _in_front(prefix[0], key), _in_front(prefix[1], value)
        return function(module, query, key, value, mask, **options)

    return attend


def _in_front(prefix: Tensor, states: Tensor) -> Tensor:
    """[P, K, D] in front of [B, K, S, D]."""
    many = prefix.transpose(0, 1).expand(len(states), -1, -1, -1)
    return torch.cat([many.to(states.dtype), states], 2)


def _whole_mask(module: nn.Module, query: Tensor, mask: Tensor | None, backend: str) -> Tensor | None:
    """The mask, also where the backend was to make the causal one itself: torch's would hide the prefix.

    Flash attention aligns its causal mask at the end of the keys and needs none.
    """
    if mask is not None or not getattr(module, "is_causal", False) or "flash" in backend:
        return mask
    length = query.shape[2]
    return torch.ones(length, length, dtype=torch.bool, device=query.device).tril()[None, None]


def _widen(mask: Tensor, tokens: int) -> Tensor:
    """[..., S] -> [..., P + S] with a prefix that is visible: True, 1, or 0 where the mask is added to the scores."""
    visible = 0 if mask.is_floating_point() else 1
    return torch.cat([mask.new_full((*mask.shape[:-1], tokens), visible), mask], -1)
