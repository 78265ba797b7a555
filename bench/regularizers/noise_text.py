"""PTP-RN in text space: random edits of the user's words.

Masking is what is known of the paper; the other operations are for ablation. A word here is a token.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.models.backbones import Backbone
from bench.regularizers.base import TwoViews

Operation = Literal["mask", "delete", "swap", "replace", "insert"]


class TextNoise(TwoViews):
    """Each of the user's tokens is edited with probability `rate`. The paper's is not public: the default is ours."""

    kind: Literal["noise"] = "noise"
    space: Literal["text"] = "text"
    operation: Operation = "mask"
    rate: float = Field(default=0.15, gt=0, le=1)

    def check(self, backbone: Backbone) -> str | None:
        if self.operation != "mask" or backbone.form == "masked":
            return None
        return f"operation: {backbone.name} has no mask token, expected delete, swap, replace or insert"


# operations: (batch, hits [B, T], words) -> batch
