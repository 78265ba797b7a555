"""LPT: a generated prompt before a middle layer (Liu et al. 2022, arXiv 2210.11292)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bench.methods.base import Method, Recipe
from bench.models.backbones import Backbone, check_depth

if TYPE_CHECKING:
    from torch import nn

    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


class LatePrompt(Method):
    """The settings are those of LPT's run_roberta.sh: P = 5, bottleneck 128, AdamW 1e-3, linear with 6 % warm-up.

    `depth` 12 is the code's `add_prompt_layer=12`, the paper's 13th layer. Without a generator the prompt is free
    and starts as N(0, 1), as `nn.Embedding` does in LPT's code.
    """

    source = "Liu et al. 2022, arXiv 2210.11292"
    kind: Literal["late_prompt"] = "late_prompt"
    depth: int = Field(ge=0)
    generator: Literal["none", "naive", "max_pooling", "average_pooling"] = "naive"
    length: int = Field(default=5, ge=1)
    bottleneck: int = Field(default=128, ge=1)
    scale: float = Field(default=1.0, gt=0)  # standard deviation of the initial prompt without a generator
    recipe: Recipe = Recipe(learning_rate=1e-3, weight_decay=0.1)

    def check(self, backbone: Backbone) -> str | None:
        return check_depth(self.depth, backbone.layers)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from bench.methods.modules.attachment import Attachment
        from bench.methods.modules.prompt_encoders import Insert

        return Attachment(self.depth, [Insert(self.prompt(stack), self.depth)])

    def prompt(self, stack: Stack) -> nn.Module:
        from bench.methods.modules.prompt_encoders import Naive, Pooling, SoftPrompt, hidden_dropout

        shape = (self.length, stack.hidden, self.bottleneck, hidden_dropout(stack))
        match self.generator:
            case "none":
                return SoftPrompt.normal(self.length, stack.hidden, self.scale)
            case "naive":
                return Naive(*shape, causal=stack.causal)
            case "max_pooling":
                return Pooling(*shape, pool="max")
            case "average_pooling":
                return Pooling(*shape, pool="average")
