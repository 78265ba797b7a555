"""Noise on the embeddings of a text, drawn where it is added.

What an element gets depends on its example's key and its place in the example, not on the batch, on padding or on
the device: all forms give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_float
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from bench.kernels import native
from bench.kernels.philox import centred, normals

Law = Literal["gaussian", "uniform"]


class Noise(Protocol):
    def __call__(self, text: Tensor, mask: Tensor, scale: float, keys: Tensor, law: Law = "gaussian") -> Tensor:
        """`text` [B, T, H] plus scale * N(0, 1), or scale * U(-1, 1), where `mask` [B, T] is True; `keys` [B] int64.

        The draw is fp32, the sum at least that, the result as `text`, whose gradient is the identity.
        """
        ...


def reference(text: Tensor, mask: Tensor, scale: float, keys: Tensor, law: Law = "gaussian") -> Tensor:
    count = text.shape[1] * text.shape[2]
    draw = (normals if law == "gaussian" else centred)(keys, count).view_as(text)
    return torch.where(mask[..., None], (text + scale * draw).to(text.dtype), text)


def compiled(text: Tensor, mask: Tensor, scale: float, keys: Tensor, law: Law = "gaussian") -> Tensor:
    assert fits(text, mask, keys), (text.shape, mask.shape, mask.dtype, keys.shape, keys.dtype)

    def add(text: Tensor) -> Tensor:
        (given,) = native.contiguous([text], native.computed_in(text.dtype))
        out = torch.empty_like(given)
        gaussian = law == "gaussian"
        native.call(
            "noise", out.dtype, given, mask.contiguous(), c_float(scale), keys.contiguous(), gaussian, *text.shape, out
        )
        return out.to(text.dtype)

    return passed(add, text)


def fits(text: Tensor, mask: Tensor, keys: Tensor) -> bool:
    """What the fast forms rely on, as they read memory by it."""
    whole = mask.dtype == torch.bool and keys.dtype == torch.int64
    return whole and mask.shape == text.shape[:2] and keys.shape == text.shape[:1]


def passed(function: Callable[[Tensor], Tensor], text: Tensor) -> Tensor:
    """`function` of `text`, with the identity for gradient."""
    return _Passed.apply(text, function)  # pyright: ignore[reportReturnType] -- torch leaves apply untyped


class _Passed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, text: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(text)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
