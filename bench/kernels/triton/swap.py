"""The best swap of each token: a neighbour's embedding is read once, its own and the gradient stay in registers."""

# pyright: reportMissingParameterType=false, reportArgumentType=false, reportGeneralTypeIssues=false, reportMissingImports=false
# to a checker neither triton's language nor its launches are Python, and a CPU-only installation lacks triton
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bench.kernels.swap import Neighbours, fits


@torch.no_grad()
def swap(
    gradient: Tensor, ids: Tensor, mask: Tensor, embeddings: Tensor, table: Neighbours, bound: float
) -> tuple[Tensor, Tensor]:
    assert fits(gradient, ids, mask, embeddings, table), (gradient.shape, ids.shape, mask.shape, embeddings.shape)
    gradient, ids, mask, embeddings = (one.contiguous() for one in (gradient, ids, mask, embeddings))
    token, gain = torch.empty_like(ids), torch.empty(ids.shape, device=ids.device)
    words = (table.tokens.contiguous(), table.cosines.contiguous(), table.rows.contiguous())
    hidden, columns = embeddings.shape[1], table.tokens.shape[1]
    options = {"BLOCK": triton.next_power_of_2(hidden), "enable_fp_fusion": False}
    _swap[(ids.numel(),)](gradient, ids, mask, embeddings, *words, bound, token, gain, columns, hidden, **options)
    return token, gain


@triton.jit
def _swap(
    gradient,
    ids,
    mask,
    embeddings,
    neighbours,
    cosines,
    rows,
    bound,
    token,
    gain,
    columns,
    hidden,
    BLOCK: tl.constexpr,
):
    """Program i: token i of all."""
    i = tl.program_id(0).to(tl.int64)
    own = tl.load(ids + i)
    row = tl.load(rows + own)
    best, chosen = -float("inf"), own
    if (tl.load(mask + i) != 0) & (row >= 0):
        h = tl.arange(0, BLOCK)
        wide = tl.float64 if gradient.dtype.element_ty == tl.float64 else tl.float32
        g = tl.load(gradient + i * hidden + h, mask=h < hidden, other=0.0).to(wide)
        start = tl.load(embeddings + own * hidden + h, mask=h < hidden, other=0.0).to(wide)
        for k in range(columns):
            if tl.load(cosines + row * columns + k) >= bound:
                other = tl.load(neighbours + row * columns + k)
                end = tl.load(embeddings + other * hidden + h, mask=h < hidden, other=0.0).to(wide)
                found = tl.sum((end - start) * g).to(tl.float32)
                if found > best:
                    best, chosen = found, other
    tl.store(token + i, chosen)
    tl.store(gain + i, best)
