"""Full tuning: every weight of the backbone."""

from typing import Literal

from bench.methods.base import Attachment, Method, Recipe
from bench.models.stack import EMBEDDINGS, Stack
from bench.models.vocabulary import Vocabulary


class Full(Method):
    """Tunes all weights; the recipe is ours, in the range usual for encoders of this size."""

    source = "-"
    kind: Literal["full"] = "full"
    recipe: Recipe = Recipe(learning_rate=2e-5, weight_decay=0.1)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        stack.requires_grad_(True)
        return Attachment(EMBEDDINGS)
