"""Prompt tuning: free vectors in front of the input (Lester et al. 2021, arXiv 2104.08691)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bench.methods.base import Method, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from bench.methods.modules.attachment import Attachment
    from bench.models.stack import Stack
    from bench.models.vocabulary import Vocabulary


class PromptTuning(Method):
    """Free vectors before layer 0, in front of `<s>`, without position embeddings, as in LPT's baseline.

    peft puts the prompt through the backbone's embedding layer instead, so that it takes positions 0..P-1 (and the
    norm of BERT's embeddings) and shifts the text to P and on; where positions are rotary the two are the same.
    Lester et al. train with Adafactor at a constant 0.3. We use AdamW: ZeRO flattens what it partitions, and
    Adafactor cannot factor a flat tensor. The learning rate and the initial scale are ours.
    """

    source = "Lester et al. 2021, arXiv 2104.08691"
    kind: Literal["prompt_tuning"] = "prompt_tuning"
    length: int = Field(default=20, ge=1)
    init: Literal["random", "vocabulary", "class_labels"] = "random"  # Lester et al., section 3.2
    scale: float = Field(default=0.5, gt=0)  # standard deviation of the random initial prompt
    recipe: Recipe = Recipe(learning_rate=5e-3)

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from bench.methods.modules.attachment import Attachment
        from bench.methods.modules.prompt_encoders import Insert, SoftPrompt

        return Attachment(0, [Insert(SoftPrompt(self.start(stack, vocabulary)), 0)])

    def start(self, stack: Stack, vocabulary: Vocabulary) -> Tensor:
        """[P, H]. A class word of several tokens begins as their mean; what words do not fill, frequent words do."""
        import torch

        if self.init == "random":
            return torch.randn(self.length, stack.hidden) * self.scale
        words = vocabulary.classes[: self.length] if self.init == "class_labels" else []
        drawn = torch.randint(len(vocabulary.frequent), (self.length - len(words),)).tolist()
        rows = [stack.embedded(tokens).mean(0) for tokens in [*words, *([vocabulary.frequent[i]] for i in drawn)]]
        return torch.stack(rows)
