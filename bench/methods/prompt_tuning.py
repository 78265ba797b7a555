"""Prompt tuning: free vectors in front of the input (Lester et al. 2021, arXiv 2104.08691)."""

from typing import Literal

from pydantic import Field
from torch import nn

from bench.methods.base import Attachment, Method, Recipe
from bench.prompts import Free, Insert
from bench.stack import Stack


class PromptTuning(Method):
    """Free vectors before layer 0, in front of `<s>`, without position embeddings, as in LPT's baseline.

    Lester et al. train with Adafactor at a constant 0.3. We use AdamW: ZeRO flattens what it partitions, and
    Adafactor cannot factor a flat tensor. The learning rate and the initial scale are ours.
    """

    kind: Literal["prompt_tuning"] = "prompt_tuning"
    length: int = Field(default=20, ge=1)
    scale: float = Field(default=0.5, gt=0)  # standard deviation of the initial prompt
    recipe: Recipe = Recipe(learning_rate=5e-3)

    def attach(self, stack: Stack) -> Attachment:
        return Attachment(0, nn.ModuleList([Insert(Free(self.length, stack.hidden, self.scale), 0)]))
