"""Deep prompts: free vectors in front of the input of every layer (Jia et al. 2022, arXiv 2203.12119)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bench.methods.base import Method, Recipe

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


class DeepPrompts(Method):
    """The hidden-state form, as VPT-Deep: each layer's prompt takes the place of what the layer below made of its own.

    P-tuning v2 gives keys and values instead: that is `prefix_tuning`. Qin and Eisner (2021, arXiv 2104.06599) add to
    what the layer below made. Recipe and initial scale are ours.
    """

    source = "VPT-Deep: Jia et al. 2022, arXiv 2203.12119"
    kind: Literal["deep_prompts"] = "deep_prompts"
    length: int = Field(default=20, ge=1)
    scale: float = Field(default=0.5, gt=0)  # standard deviation of the initial prompts
    recipe: Recipe = Recipe(learning_rate=5e-3)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from bench.methods.modules.attachment import Attachment
        from bench.methods.modules.deep_prompts import EachLayer
        from bench.methods.modules.prompt_encoders import SoftPrompt

        prompts = [SoftPrompt.normal(self.length, stack.hidden, self.scale) for _ in stack.layers]
        return Attachment(0, [EachLayer(prompts)])
