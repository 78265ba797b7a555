"""Philox4x32, a random generator without state (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

What is drawn depends on a key and an index alone, and is the same bits on every device: the integers are exact, and
normals are made of them by additions, multiplications and square roots that IEEE 754 rounds in one way only.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 7  # the fewest that pass BigCrush (Salmon et al.); 10, the custom, are a third slower on a CPU
WORD = 0xFFFFFFFF

# log(1 + x) = x - x^2 / 2 + x^3 P(x) for 1 + x in [sqrt(1/2), sqrt(2)); this and what follows is from Cephes' single
# precision (Moshier): logf.c, sinf.c
LOG = (
    *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
    *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
LOG2_HIGH, LOG2_LOW = 0.693359375, -2.12194440e-4  # log(2) in two parts: the first times an exponent is exact
SQRT_HALF_BITS = 0x3F3504F3  # of sqrt(1/2) in fp32
SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)  # sin x = x + x^3 P(x^2) up to pi / 4
COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)  # cos x = 1 - x^2 / 2 + x^4 P(x^2)
HALF_PI = 1.5707963267948966


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor], rounds: int = ROUNDS) -> tuple[Tensor, ...]:
    """Four words of the four of `counter` and the two of `key`; int64 that hold 32 bits, of shapes that broadcast."""
    (a, b, c, d), (low, high) = counter, key
    for _ in range(rounds):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57  # int64 wraps, which leaves the bits right
        a, b, c, d = ((right >> 32) & WORD) ^ b ^ low, right & WORD, ((left >> 32) & WORD) ^ d ^ high, left & WORD
        low, high = (low + 0x9E3779B9) & WORD, (high + 0xBB67AE85) & WORD
    return a, b, c, d


def words(keys: Tensor, count: int, stream: int) -> tuple[Tensor, ...]:
    """Four words [B, blocks] int64 for each of `keys` [B] int64: enough blocks of four for `count` draws."""
    block = torch.arange((count + 3) // 4, device=keys.device)
    zero = torch.zeros_like(block)
    return philox((block, zero + stream, zero, zero), (keys[:, None] & WORD, (keys[:, None] >> 32) & WORD))


def normals(keys: Tensor, count: int) -> Tensor:
    """[B, count] of N(0, 1) in fp32, none beyond 6.8."""
    a, b, c, d = words(keys, count, 0)
    return _in_line(torch.stack(box_muller(torch.stack([a, c], -1), torch.stack([b, d], -1)), -1), count)


def centred(keys: Tensor, count: int) -> Tensor:
    """[B, count] of U(-1, 1) in fp32: odd multiples of 2^-24."""
    return _in_line((_float(torch.stack(words(keys, count, 0), -1) >> 8) * 2 - (2**24 - 1)) * 2.0**-24, count)


def uniforms(keys: Tensor, columns: int, stream: int = 0) -> Tensor:
    """[B, columns] of U[0, 1) in fp32; what two streams give is independent, also of the noise of the same key."""
    return _in_line(_float(torch.stack(words(keys, columns, stream + 1), -1) >> 8) * 2.0**-24, columns)


def box_muller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(-2 log u) times cos and sin of 2 pi b / 2^32; u is (a + 1/2) / 2^32 in fp32, which keeps the tails."""
    u = _float(a >> 8) * 2.0**-24 + (_float(a & 255) * 2.0**-32 + 2.0**-33)
    radius = (log(u) * -2.0).double().sqrt().float()  # on a CPU the square root of fp32 is not always the nearest
    quadrant, part = (b + 2**29) >> 30, ((b + 2**29) & (2**30 - 1)) - 2**29
    x = _float(part >> 6) * (HALF_PI * 2.0**-24)  # -pi / 4 .. pi / 4
    z = x * x
    sine = polynomial(SIN, z) * z * x + x
    cosine = polynomial(COS, z) * z * z - z * 0.5 + 1.0
    odd = (quadrant & 1) != 0
    first, second = torch.where(odd, sine, cosine), torch.where(odd, cosine, sine)
    first = torch.where(((quadrant + 1) & 2) != 0, -first, first)
    return radius * first, radius * torch.where((quadrant & 2) != 0, -second, second)


def log(u: Tensor) -> Tensor:
    """Of fp32 in 2^-33 .. 1."""
    bits = u.view(torch.int32) - SQRT_HALF_BITS
    exponent = (bits >> 23).float()
    x = ((bits & 0x7FFFFF) + SQRT_HALF_BITS).view(torch.float32) - 1.0
    z = x * x
    y = polynomial(LOG, x) * x * z + exponent * LOG2_LOW - z * 0.5
    return x + y + exponent * LOG2_HIGH


def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    y = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        y = y * x + coefficient
    return y


def _float(word: Tensor) -> Tensor:
    return word.to(torch.int32).float()  # below 2^24 both steps are exact


def _in_line(draws: Tensor, count: int) -> Tensor:
    """[B, count] of [B, blocks, ...]: the four of a block are neighbours."""
    return draws.flatten(1)[:, :count]
