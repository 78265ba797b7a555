"""Words exchanged for neighbours that raise the loss, to first order (HotFlip, Ebrahimi et al. 2018, arXiv 1712.06751).

As in A2T (Yoo and Qi 2021, arXiv 2109.00544) a word may become one whose embedding is near in cosine.
"""

from __future__ import annotations

from ctypes import c_float
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bench.kernels import native

CHUNK = 2**24  # cosines at a time in `nearest`, 64 MiB


@dataclass(frozen=True)
class Neighbours:
    """Of N tokens of a vocabulary of V, the K nearest others."""

    tokens: Tensor  # [N, K] int64, nearest first
    cosines: Tensor  # [N, K] fp32; -inf where there are fewer than K
    rows: Tensor  # [V] int64: the row of each token, -1 for none

    def joined(self, other: Neighbours) -> Neighbours:
        """With the tokens of another table of the same vocabulary, none of which this one has."""
        rows = torch.where(other.rows < 0, self.rows, other.rows + len(self.tokens))
        return Neighbours(torch.cat([self.tokens, other.tokens]), torch.cat([self.cosines, other.cosines]), rows)


class Swap(Protocol):
    def __call__(
        self, gradient: Tensor, ids: Tensor, mask: Tensor, embeddings: Tensor, table: Neighbours, bound: float
    ) -> tuple[Tensor, Tensor]:
        """The neighbour j of each token i of `ids` [B, T] with the largest gain (E_j - E_i) . gradient, and that gain.

        `gradient` [B, T, H], `embeddings` E [V, H]; at least fp32 inside. Only where `mask` [B, T] is True and for
        cosines >= `bound`; else the token is i and the gain -inf. Of equals the nearest. [B, T] int64 and fp32.
        """
        ...


@torch.no_grad()
def reference(
    gradient: Tensor, ids: Tensor, mask: Tensor, embeddings: Tensor, table: Neighbours, bound: float
) -> tuple[Tensor, Tensor]:
    if not len(table.tokens):
        return ids.clone(), torch.full(ids.shape, -torch.inf, device=ids.device)
    inside = torch.promote_types(gradient.dtype, torch.float32)
    row = table.rows[ids]
    others = table.tokens[row]  # [B, T, K]; what a row of -1 gives is not allowed
    allowed = (mask & (row >= 0))[..., None] & (table.cosines[row] >= bound)
    own, gradient = embeddings[ids].to(inside), gradient.to(inside)
    columns = [((embeddings[other].to(inside) - own) * gradient).sum(-1) for other in others.unbind(-1)]
    gains = torch.stack(columns, -1).float().masked_fill(~allowed, -torch.inf)
    column = gains.argmax(-1, keepdim=True)  # the first of equals
    return torch.where(allowed.any(-1), others.gather(-1, column)[..., 0], ids), gains.gather(-1, column)[..., 0]


@torch.no_grad()
def compiled(
    gradient: Tensor, ids: Tensor, mask: Tensor, embeddings: Tensor, table: Neighbours, bound: float
) -> tuple[Tensor, Tensor]:
    """A copy of 16-bit embeddings is made in fp32."""
    assert fits(gradient, ids, mask, embeddings, table), (gradient.shape, ids.shape, mask.shape, embeddings.shape)
    gradient, embeddings = native.contiguous([gradient, embeddings], native.computed_in(gradient.dtype))
    token, gain = torch.empty_like(ids, memory_format=torch.contiguous_format), torch.empty(ids.shape)
    words = (embeddings, table.tokens.contiguous(), table.cosines.contiguous(), table.rows.contiguous())
    sizes = (c_float(bound), ids.numel(), embeddings.shape[1], table.tokens.shape[1])
    native.call("swap", gradient.dtype, gradient, ids.contiguous(), mask.contiguous(), *words, *sizes, token, gain)
    return token, gain


def fits(gradient: Tensor, ids: Tensor, mask: Tensor, embeddings: Tensor, table: Neighbours) -> bool:
    """What the fast forms rely on, as they read memory by it."""
    typed = mask.dtype == torch.bool and ids.dtype == torch.int64 and table.cosines.dtype == torch.float32
    sized = len(table.rows) == len(embeddings) and gradient.shape[2] == embeddings.shape[1]
    return typed and sized and gradient.shape[:2] == ids.shape == mask.shape


@torch.no_grad()
def nearest(embeddings: Tensor, tokens: Tensor, k: int, allowed: Tensor) -> Neighbours:
    """The `k` of `allowed` [V] bool nearest in cosine to each of `tokens` [N], never itself; E is [V, H].

    Where fewer are allowed, the token itself fills the rest of its row.
    """
    unit = torch.nn.functional.normalize(embeddings.float(), dim=1)
    vocabulary, width = len(unit), min(k, len(unit))
    found = torch.empty(len(tokens), k, dtype=torch.int64, device=tokens.device)
    cosines = torch.full((len(tokens), k), -torch.inf, device=tokens.device)
    found[:] = tokens[:, None]
    step = max(1, CHUNK // vocabulary)
    for start in range(0, len(tokens), step):
        own = tokens[start : start + step]
        cosine = (unit[own] @ unit.T).masked_fill_(~allowed, -torch.inf)
        cosine.scatter_(1, own[:, None], -torch.inf)
        best, other = cosine.topk(width)
        cosines[start : start + step, :width] = best
        found[start : start + step, :width] = torch.where(best > -torch.inf, other, own[:, None])
    rows = torch.full((vocabulary,), -1, device=tokens.device)
    rows[tokens] = torch.arange(len(tokens), device=tokens.device)
    return Neighbours(found, cosines, rows)
