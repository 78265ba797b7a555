"""Compacter: adapters whose maps are low-rank PHM layers (Mahabadi et al. 2021, arXiv 2106.04647)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bench.methods.base import Method, Recipe

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


class Compacter(Method):
    """Settings of the adapters library: n = 4, rank 1, A from N(0, 1e-4^2) and shared by all, reduction 32, gelu.

    `behind_attention: false` is Compacter++ as its authors have it; the library's stands in Pfeiffer's place. Theirs
    train the layer norms, too, and warm up over 500 steps (rabeehk/compacter, seq2seq/configs/compacter.json); the
    learning rate is theirs.
    """

    source = "Mahabadi et al. 2021, arXiv 2106.04647"
    kind: Literal["compacter"] = "compacter"
    reduction: int = Field(default=32, ge=1)  # H / bottleneck
    phm_dimension: int = Field(default=4, ge=1)  # n
    rank: int = Field(default=1, ge=1)
    behind_attention: bool = True
    recipe: Recipe = Recipe(learning_rate=3e-3)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        import torch
        from torch import nn

        from bench.methods.modules.adapters import ACTIVATIONS, behind_both, behind_feed_forward
        from bench.methods.modules.attachment import Attachment
        from bench.methods.modules.phm import Phm

        hidden, n = stack.hidden, self.phm_dimension
        bottleneck = max(1, hidden // self.reduction // n) * n  # which n must divide
        rule = nn.Parameter(torch.randn(n, n, n) * 1e-4)

        def adapter() -> nn.Module:
            down, up = (Phm(*sizes, n, self.rank, rule) for sizes in ((hidden, bottleneck), (bottleneck, hidden)))
            return nn.Sequential(down, ACTIVATIONS["gelu"](), up)

        for site in stack.sites:
            (behind_both if self.behind_attention else behind_feed_forward)(site, adapter)
        return Attachment(stack.first_trainable_depth())
