"""A step of an attack in two launches: partial norms of pieces of each example, then the step.

What must move: delta and gradient twice, the result once; for linf delta once.
"""

# pyright: reportMissingParameterType=false, reportArgumentType=false, reportGeneralTypeIssues=false, reportMissingImports=false
# to a checker neither triton's language nor its launches are Python, and a CPU-only installation lacks triton
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bench.kernels.ascent import SMALLEST as SMALLEST_NORM
from bench.kernels.ascent import Norm, fits
from bench.kernels.triton import block

BLOCK, BLOCKS = 2048, 4  # elements at a time, and how often, in a program
SMALLEST = tl.constexpr(SMALLEST_NORM)


@torch.no_grad()
def ascent(
    delta: Tensor,
    gradient: Tensor,
    mask: Tensor,
    step_size: float,
    radius: float,
    norm: Norm,
    text: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The norm of the result is not a pass of its own: see `compiled` for what that costs."""
    assert fits(delta, gradient, mask, text), (delta.shape, gradient.shape, mask.shape, mask.dtype)
    delta, gradient, mask, (B, T, H) = delta.contiguous(), gradient.contiguous(), mask.contiguous(), delta.shape
    out = torch.empty_like(delta)
    shifted = None if text is None else torch.empty_like(text, memory_format=torch.contiguous_format)
    size = block(BLOCK, delta.device)
    pieces = triton.cdiv(T * H, size * BLOCKS)
    wide = torch.promote_types(delta.dtype, torch.float32)
    partial = torch.empty(B, 3, pieces, dtype=wide, device=delta.device)
    options = {"l2": norm == "l2", "project": radius != 0, "BLOCK": size, "BLOCKS": BLOCKS}
    options |= {"num_warps": 8, "enable_fp_fusion": False}
    _norms[(pieces, B)](delta, gradient, mask, partial, T, T * H, H, **options)
    texts = (None, None) if text is None else (text.contiguous(), shifted)
    options["PIECES"] = triton.next_power_of_2(pieces)
    _step[(pieces, B)](delta, gradient, mask, partial, out, *texts, step_size, radius, T, T * H, H, **options)
    return out, shifted


@triton.jit
def _norms(
    delta,
    gradient,
    mask,
    partial,
    tokens,
    count,
    hidden: tl.constexpr,
    l2: tl.constexpr,
    project: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Program (i, b): of piece i of example b, <g, g>, <d, g>, <d, d>, or max |g|."""
    example = tl.program_id(1).to(tl.int64)
    wide = partial.dtype.element_ty
    gg = tl.zeros((BLOCK,), wide)
    dg = tl.zeros((BLOCK,), wide)
    dd = tl.zeros((BLOCK,), wide)
    for i in range(BLOCKS):
        index = (tl.program_id(0) * BLOCKS + i) * BLOCK + tl.arange(0, BLOCK)
        inside = index < count
        inside = tl.load(mask + example * tokens + index // hidden, mask=inside, other=0) != 0
        g = tl.load(gradient + example * count + index, mask=inside, other=0.0).to(wide)
        if l2:
            gg += g * g
            if project:
                d = tl.load(delta + example * count + index, mask=inside, other=0.0).to(wide)
                dg += d * g
                dd += d * d
        else:
            gg = tl.maximum(gg, tl.abs(g))
    pieces = tl.num_programs(0)
    to = partial + example * 3 * pieces + tl.program_id(0)
    tl.store(to, tl.sum(gg) if l2 else tl.max(gg))
    tl.store(to + pieces, tl.sum(dg))
    tl.store(to + 2 * pieces, tl.sum(dd))


@triton.jit
def _step(
    delta,
    gradient,
    mask,
    partial,
    out,
    text,
    shifted,
    step_size,
    radius,
    tokens,
    count,
    hidden: tl.constexpr,
    l2: tl.constexpr,
    project: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
    PIECES: tl.constexpr,
):
    """Program (i, b): piece i of example b."""
    example = tl.program_id(1).to(tl.int64)
    wide = partial.dtype.element_ty
    pieces = tl.num_programs(0)
    piece = tl.arange(0, PIECES)
    at = partial + example * 3 * pieces + piece
    gg = tl.load(at, mask=piece < pieces, other=0.0)
    norm = tl.sqrt(tl.sum(gg)) if l2 else tl.max(gg)
    rate = step_size / tl.maximum(norm, SMALLEST)
    shrink = rate * 0 + 1
    if l2 and project:
        dg = tl.sum(tl.load(at + pieces, mask=piece < pieces, other=0.0))
        dd = tl.sum(tl.load(at + 2 * pieces, mask=piece < pieces, other=0.0))
        square = dd + 2 * rate * dg + (rate * norm) * (rate * norm)
        shrink = tl.minimum(radius / tl.maximum(tl.sqrt(tl.maximum(square, 0.0)), SMALLEST), 1.0)
    for i in range(BLOCKS):
        index = (tl.program_id(0) * BLOCKS + i) * BLOCK + tl.arange(0, BLOCK)
        inside = index < count
        eligible = tl.load(mask + example * tokens + index // hidden, mask=inside, other=0) != 0
        d = tl.load(delta + example * count + index, mask=eligible, other=0.0).to(wide)
        g = tl.load(gradient + example * count + index, mask=eligible, other=0.0).to(wide)
        after = (d + rate * g) * shrink
        if project and not l2:
            after = tl.minimum(tl.maximum(after, -radius), radius)
        after = after.to(out.dtype.element_ty)
        tl.store(out + example * count + index, after, mask=inside)
        if text is not None:
            before = tl.load(text + example * count + index, mask=inside)
            sum_ = (before.to(wide) + after.to(wide)).to(before.dtype)
            tl.store(shifted + example * count + index, sum_, mask=inside)
