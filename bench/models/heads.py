"""Heads: what turns the states of the last layer into scores of the classes, and the loss trained on.

AnswerWords is the form of LPT and LM-BFF: the backbone's own LM head at the answer position, trained on the
cross-entropy over the full vocabulary (as in LPT's code) or over the answer words; prediction is over the answer
words. Linear is the form of P-tuning v2 and IDPG: a new linear layer on the plain text, without a template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bench.core.settings import Settings

if TYPE_CHECKING:
    from bench.models.head_modules import Head
    from bench.models.stack import Stack


class AnswerWords(Settings):
    kind: Literal["answer_words"] = "answer_words"
    loss: Literal["vocabulary", "answer_words"] = "vocabulary"

    @property
    def label(self) -> str:
        return "answer words" if self.loss == "vocabulary" else "answer words (loss over them)"

    def build(self, stack: Stack, answer_ids: list[int]) -> Head:
        from bench.models.head_modules import AnswerWordsHead

        return AnswerWordsHead(answer_ids, restricted=self.loss == "answer_words")


class Linear(Settings):
    kind: Literal["linear"] = "linear"
    # None: the first token in encoders, the last in decoders; the decoder's first state in an encoder-decoder
    pooling: Literal["first", "last", "mean"] | None = None

    @property
    def label(self) -> str:
        return "linear" if self.pooling is None else f"linear on {self.pooling}"

    def build(self, stack: Stack, answer_ids: list[int]) -> Head:
        from bench.models.head_modules import LinearHead

        pooling = {"masked": "first", "causal": "last", "encoder_decoder": "answer"}[stack.form]
        return LinearHead(stack.hidden, len(answer_ids), self.pooling or pooling)


HEADS: dict[str, type[AnswerWords | Linear]] = {"answer_words": AnswerWords, "linear": Linear}
HeadSettings = AnswerWords | Linear
