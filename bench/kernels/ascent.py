"""A step of an attack on the embeddings of a text: normalise, step, project, mask.

The rule is FreeLB's (zhuchen03/FreeLB, run_glue_freelb.py:277-296): norms are per example, over all its tokens.
Unlike there, every step is masked.
"""

from __future__ import annotations

from ctypes import c_double
from typing import Literal, Protocol

import torch
from torch import Tensor

from bench.kernels import native

Norm = Literal["l2", "linf"]
SMALLEST = 1e-8  # norm divided by


class Ascent(Protocol):
    def __call__(
        self,
        delta: Tensor,
        gradient: Tensor,
        mask: Tensor,
        step_size: float,
        radius: float,
        norm: Norm,
        text: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """delta + step_size * gradient / ||gradient||, brought back into the ball of `radius`; 0 is no ball.

        All [B, T, H], and 0 where `mask` [B, T] is False. At least fp32 inside, the result as `delta`; with `text`
        also text + the result, as `text`. Nothing is differentiated.
        """
        ...


@torch.no_grad()
def reference(
    delta: Tensor,
    gradient: Tensor,
    mask: Tensor,
    step_size: float,
    radius: float,
    norm: Norm,
    text: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    inside = torch.promote_types(delta.dtype, torch.float32)
    before, gradient = (torch.where(mask[..., None], one, 0).to(inside) for one in (delta, gradient))
    after = before + step_size * gradient / length(gradient, norm).clamp_min(SMALLEST)
    if radius and norm == "linf":
        after = after.clamp(-radius, radius)
    elif radius:
        after = after * (radius / length(after, "l2").clamp_min(SMALLEST)).clamp_max(1.0)
    return with_text(after.to(delta.dtype), text)


def length(delta: Tensor, norm: Norm) -> Tensor:
    """[B, 1, 1]: the norm of each example's [T, H]."""
    return torch.linalg.vector_norm(delta, 2 if norm == "l2" else float("inf"), dim=(1, 2), keepdim=True)


def fits(delta: Tensor, gradient: Tensor, mask: Tensor, text: Tensor | None) -> bool:
    """What the fast forms rely on, as they read memory by it."""
    alike = delta.shape == gradient.shape == (delta if text is None else text).shape
    return alike and mask.dtype == torch.bool and mask.shape == delta.shape[:2]


def with_text(delta: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return delta, None if text is None else (text + delta).to(text.dtype)


@torch.no_grad()
def compiled(
    delta: Tensor,
    gradient: Tensor,
    mask: Tensor,
    step_size: float,
    radius: float,
    norm: Norm,
    text: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """One pass for the norms, as ||d + c g||^2 = ||d||^2 + 2 c <d, g> + c^2 ||g||^2, and one to write.

    Where the three cancel, the norm's relative error is that of a sum, about 1e-7, times (||d|| + step)^2 / radius^2.
    That is below 1e-5 while delta and step are within a few radii, as they are in an attack.
    """
    assert fits(delta, gradient, mask, text), (delta.shape, gradient.shape, mask.shape, mask.dtype)
    inside = native.computed_in(delta.dtype)
    before, gradient = native.contiguous([delta, gradient], inside)
    out = torch.empty_like(before)
    sizes = (c_double(step_size), c_double(radius), norm == "l2", *delta.shape)
    fused = text is not None and text.dtype == delta.dtype == inside  # in 16 bit the sum waits for the rounding
    texts = (text.contiguous(), torch.empty_like(out)) if text is not None and fused else (None, None)
    native.call("ascent", inside, before, gradient, mask.contiguous(), *sizes, out, *texts)
    return (out, texts[1]) if fused else with_text(out.to(delta.dtype), text)
