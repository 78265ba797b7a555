"""Noise drawn in registers: one read and one write of the text, 7 rounds of Philox for four elements.

The normals are those of philox.py, operation by operation. Launches are without fused multiply-add, which gives
other bits.
"""

# pyright: reportMissingParameterType=false, reportArgumentType=false, reportGeneralTypeIssues=false, reportMissingImports=false
# to a checker neither triton's language nor its launches are Python, and a CPU-only installation lacks triton
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bench.kernels import philox
from bench.kernels.noise import Law, fits, passed
from bench.kernels.triton import block

BLOCK = 1024  # elements of a program; on 4 warps two blocks of four for each thread
ROUNDS = tl.constexpr(philox.ROUNDS)
LOG, SIN, COS = tl.constexpr(philox.LOG), tl.constexpr(philox.SIN), tl.constexpr(philox.COS)
LOG2_HIGH, LOG2_LOW = tl.constexpr(philox.LOG2_HIGH), tl.constexpr(philox.LOG2_LOW)
SQRT_HALF_BITS, ANGLE = tl.constexpr(philox.SQRT_HALF_BITS), tl.constexpr(philox.HALF_PI * 2.0**-24)


def noise(text: Tensor, mask: Tensor, scale: float, keys: Tensor, law: Law = "gaussian") -> Tensor:
    assert fits(text, mask, keys), (text.shape, mask.shape, mask.dtype, keys.shape, keys.dtype)

    def add(text: Tensor) -> Tensor:
        text, (B, T, H) = text.contiguous(), text.shape
        out = torch.empty_like(text)
        size = block(BLOCK, text.device)
        options = {"gaussian": law == "gaussian", "BLOCK": size, "enable_fp_fusion": False}
        grid = (triton.cdiv(T * H, size), B)
        _noise[grid](text, mask.contiguous(), scale, keys.contiguous(), out, T, T * H, H, **options)
        return out

    return passed(add, text)


@triton.jit
def _noise(
    text, mask, scale, keys, out, tokens, count, hidden: tl.constexpr, gaussian: tl.constexpr, BLOCK: tl.constexpr
):
    """Program (i, b): elements i * BLOCK .. of example b."""
    example = tl.program_id(1).to(tl.int64)
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    eligible = tl.load(mask + example * tokens + index // hidden, mask=inside, other=0) != 0
    before = tl.load(text + example * count + index, mask=inside)
    four = tl.program_id(0) * (BLOCK // 4) + tl.arange(0, BLOCK // 4)
    zero = four * 0
    a, b, c, d = tl.philox(tl.load(keys + example), four, zero, zero, zero, ROUNDS)
    if gaussian:
        p, q = box_muller(a, b)
        r, s = box_muller(c, d)
    else:
        p, q, r, s = centred(a), centred(b), centred(c), centred(d)
    draw = tl.join(tl.join(p, r), tl.join(q, s)).reshape(BLOCK)  # the four of a block are neighbours
    wide = tl.float64 if before.dtype == tl.float64 else tl.float32
    after = (before.to(wide) + (draw * scale).to(wide)).to(before.dtype)
    tl.store(out + example * count + index, tl.where(eligible, after, before), mask=inside)


@triton.jit
def centred(word):
    return ((word >> 8).to(tl.float32) * 2 - 16777215.0) * (2.0**-24)


@triton.jit
def box_muller(a, b):
    u = (a >> 8).to(tl.float32) * (2.0**-24) + ((a & 255).to(tl.float32) * (2.0**-32) + (2.0**-33))
    radius = tl.sqrt_rn(log(u) * -2.0)
    x = ((b << 2).to(tl.int32, bitcast=True) >> 8).to(tl.float32) * ANGLE
    z = x * x
    sine = ((z * SIN[0] + SIN[1]) * z + SIN[2]) * z * x + x
    cosine = ((z * COS[0] + COS[1]) * z + COS[2]) * z * z - z * 0.5 + 1.0
    b = b + 536870912  # half a quadrant
    odd = (b & 1073741824) != 0
    first = negative_if(tl.where(odd, sine, cosine), b + 1073741824)
    return radius * first, radius * negative_if(tl.where(odd, cosine, sine), b)


@triton.jit
def negative_if(x, word):
    """-x where the word's highest bit is set."""
    return (x.to(tl.uint32, bitcast=True) ^ (word & 2147483648)).to(tl.float32, bitcast=True)


@triton.jit
def log(u):
    bits = u.to(tl.int32, bitcast=True) - SQRT_HALF_BITS
    exponent = (bits >> 23).to(tl.float32)
    x = ((bits & 0x7FFFFF) + SQRT_HALF_BITS).to(tl.float32, bitcast=True) - 1.0
    z = x * x
    y = x * LOG[0] + LOG[1]
    for i in tl.static_range(2, 9):
        y = y * x + LOG[i]
    y = y * x * z + exponent * LOG2_LOW - z * 0.5
    return x + y + exponent * LOG2_HIGH
