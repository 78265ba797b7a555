"""Full tuning: every weight of the backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bench.methods.base import Method, Recipe
from bench.models.backbones import EMBEDDINGS

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


class Full(Method):
    """Tunes all weights; the recipe is ours, in the range usual for encoders of this size."""

    source = "-"
    kind: Literal["full"] = "full"
    recipe: Recipe = Recipe(learning_rate=2e-5, weight_decay=0.1)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from bench.methods.modules.attachment import Attachment

        stack.requires_grad_(True)
        return Attachment(EMBEDDINGS)
