"""PTP-ADV in embedding space: projected gradient ascent on the loss, as PGD or as FreeLB.

The rule is FreeLB's (Zhu et al. 2020, arXiv 1909.11764; zhuchen03/FreeLB, run_glue_freelb.py:226-296): norms are per
example over all its tokens, the start is U(-1, 1) * initial / sqrt(tokens * H). Unlike there, every step is masked.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bench.models.backbones import EMBEDDINGS
from bench.models.pass_cost import PassCost
from bench.regularizers.base import EmbeddingPerturbation


class Attack(EmbeddingPerturbation):
    """`pgd` trains on the last point of the ascent, `freelb` on the mean over all of them.

    The paper's settings are not public: the defaults are FreeLB's for MNLI on RoBERTa-large. The norms are absolute
    and per sequence, so they do not transfer to a backbone with another embedding scale.
    """

    kind: Literal["attack"] = "attack"
    algorithm: Literal["pgd", "freelb"] = "pgd"
    norm: Literal["l2", "linf"] = "l2"
    steps: int = Field(default=2, ge=1)
    step_size: float = Field(default=0.1, gt=0)
    radius: float = Field(default=0.3, ge=0)  # 0: no projection
    initial: float = Field(default=0.1, ge=0)  # magnitude of the random start

    @model_validator(mode="after")
    def freelb_trains_on_cross_entropy(self) -> Attack:
        if self.algorithm == "freelb" and self.loss == "symmetric_kl":
            raise ValueError("cross_entropy with freelb, which takes each point's pass by itself")
        return self

    @property
    def passes(self) -> int:
        clean = 1 if self.clean_weight else 0
        return 1 if self.algorithm == "pgd" else self.steps + clean

    def walks(self, first: int, shared: bool = True) -> list[PassCost]:
        common, at = self.shared_part(first, shared), self.at
        *below, both = super().walks(first, shared)
        if self.algorithm == "pgd":
            between = [] if at == EMBEDDINGS else [PassCost(common, stop=at)]
            inner = PassCost(at, times=self.steps, gradient_from=at, text_from=at, weights=False)
            return [*below, *between, inner, both]
        clean = [PassCost(common)] if self.clean_weight else []
        return [*below, *clean, PassCost(common, times=self.steps, gradient_from=min(at, first), text_from=at)]
