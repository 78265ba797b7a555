"""Linear probe: a linear head on the frozen backbone, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bench.methods.base import Method, Recipe

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


class LinearProbe(Method):
    """Only the head trains: what a backbone knows without being tuned. The recipe is ours."""

    source = "Alain and Bengio 2016, arXiv 1610.01644"
    heads = ("linear",)
    trains_head_only = True
    kind: Literal["linear_probe"] = "linear_probe"
    recipe: Recipe = Recipe(learning_rate=1e-3)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from bench.methods.modules.attachment import Attachment

        return Attachment(len(stack.layers))
