"""BitFit: the bias vectors alone (Ben Zaken et al. 2022, arXiv 2106.10199)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bench.methods.base import Method, Recipe
from bench.models.backbones import NO_BIASES, Backbone

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


class BitFit(Method):
    """All bias vectors of embeddings and layers; those of the LM head stay as they are.

    The recipe is that of benzakenelad/BitFit (run_glue.py, GLUEvaluator.py).
    """

    source = "Ben Zaken et al. 2022, arXiv 2106.10199"
    kind: Literal["bitfit"] = "bitfit"
    recipe: Recipe = Recipe(learning_rate=1e-3, schedule="constant", warmup=0, epsilon=1e-6)

    def check(self, backbone: Backbone) -> str | None:
        if backbone.model_type not in NO_BIASES:
            return None
        return f"bitfit trains biases, and {backbone.name} ({backbone.model_type}) has none"

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from bench.methods.modules.attachment import Attachment

        for name, parameter in stack.parameters_without_lm_head():
            parameter.requires_grad_(name.endswith("bias"))
        return Attachment(stack.first_trainable_depth())
