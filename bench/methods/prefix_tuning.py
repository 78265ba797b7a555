"""Prefix tuning, P-tuning v2: keys and values of its own for every layer.

Li and Liang 2021, arXiv 2101.00190; Liu et al. 2022, arXiv 2110.07602.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bench.methods.base import Method, Recipe

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


class PrefixTuning(Method):
    """As THUDM/P-tuning-v2 (model/prefix_encoder.py): P rows of 2 L keys and values from N(0, 1), with dropout.

    There and in peft the text's positions begin at P, since the prefix counts as past; here the text keeps its own,
    so that no position is lost. With `projection` the rows come from P vectors through an MLP, as in prefix tuning.
    Length 20 is what LPT's parameter table implies for its baseline; the learning rate is that of RTE there.
    """

    source = "Liu et al. 2022, arXiv 2110.07602; Li and Liang 2021"
    kind: Literal["prefix_tuning"] = "prefix_tuning"
    length: int = Field(default=20, ge=1)
    projection: bool = False
    bottleneck: int = Field(default=512, ge=1)  # of the projection
    recipe: Recipe = Recipe(learning_rate=5e-3, warmup=0)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from bench.methods.modules.attachment import Attachment
        from bench.methods.modules.prefixes import Prefixes

        stack.accept_keys_values()
        bottleneck = self.bottleneck if self.projection else None
        prefixes = Prefixes(self.length, stack, bottleneck)
        return Attachment(0, [prefixes])
