"""From an example to tokens: template, answer position, and which tokens are the user's words.

A text is tokenised as a whole, as the backbone saw text in pretraining; the offsets of its tokens tell which
characters came from a field and which from the template.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.settings import InputError, Problem
from bench.tasks import Task


@dataclass(frozen=True)
class Encoded:
    ids: np.ndarray  # [T] int64
    eligible: np.ndarray  # [T] int64: 1 on tokens of a field
    segments: np.ndarray  # [T] int64
    answer: int  # position
    label: int


@dataclass(frozen=True)
class Span:
    """Where a field, or the mask, stands: characters `start` to `end` of one of the tokenised sequences."""

    sequence: int
    start: int
    end: int

    def holds(self, sequence: int | None, offsets: tuple[int, int]) -> bool:
        """Whether a token with these offsets has characters of it."""
        return sequence == self.sequence and offsets[0] < self.end and offsets[1] > self.start


@dataclass(frozen=True)
class Templater:
    """Encodes the examples of one task for one tokenizer and head."""

    task: Task
    tokenizer: Any
    form: str  # of the backbone: masked, causal or encoder_decoder
    plain: bool  # the fields alone, without template: what a linear head reads
    max_length: int

    def encode(self, texts: Sequence[str], label: int) -> Encoded:
        """Texts that are too long are cut at their end, the longest first; the template stays whole."""
        texts = list(texts)
        while True:
            encoding, spans = self._tokenize(texts)
            owners = [self._owner(encoding, spans, i) for i in range(len(encoding.ids))]
            excess = len(encoding.ids) - self.max_length
            if excess <= 0:
                return self._encoded(encoding, owners, label)
            self._cut(texts, encoding, spans, owners, excess)

    def answer_ids(self) -> list[int]:
        """The token of each answer word, as it stands behind a space. InputError names a word that is no one token."""
        ids: list[int] = []
        for word in self.task.words:
            tokens = self.tokenizer.encode(f" {word}", add_special_tokens=False)
            if len(tokens) != 1 or tokens[0] == self.tokenizer.unk_token_id:
                found = self.tokenizer.convert_ids_to_tokens(tokens)
                message = f"answer word {word!r} is {found} for this tokenizer, expected one known token"
                raise InputError(f"task {self.task.name}", [Problem("words", message)])
            ids.append(tokens[0])
        return ids

    def _tokenize(self, texts: list[str]) -> tuple[Any, dict[str, Span]]:
        """The encoding, and where each field (and the mask) stands in it."""
        fields = self.task.fields
        if self.plain and self.form != "causal":  # a pair as the tokenizer writes pairs
            encoding = self.tokenizer(*texts)[0]
            return encoding, {name: Span(i, 0, len(texts[i])) for i, name in enumerate(fields)}
        template = self.task.masked if self.form == "masked" else self.task.causal
        if self.plain:
            template = " ".join(f"{{{name}}}" for name in fields)
        values = dict(zip(fields, texts, strict=True)) | {"mask": self.tokenizer.mask_token or ""}
        text, spans = fill(template, values)
        return self.tokenizer(text)[0], spans

    def _owner(self, encoding: Any, spans: dict[str, Span], token: int) -> str | None:
        """The field a token came from, `mask`, or None for special and template tokens."""
        place = encoding.sequence_ids[token], encoding.offsets[token]
        return next((name for name, span in spans.items() if span.holds(*place)), None)

    def _cut(
        self,
        texts: list[str],
        encoding: Any,
        spans: dict[str, Span],
        owners: list[str | None],
        excess: int,
    ) -> None:
        """Shortens the text with most tokens, down to the length of the next at most."""
        fields = self.task.fields
        counts = sorted(((owners.count(name), i) for i, name in enumerate(fields)), reverse=True)
        most, longest = counts[0]
        second = counts[1][0] if len(counts) > 1 else 0
        drop = min(excess, max(most - second, 1))
        if most <= drop:
            message = f"found {self.max_length}, too short for the template of task {self.task.name}"
            raise InputError("cell", [Problem("max_length", message)])
        tokens = [i for i, owner in enumerate(owners) if owner == fields[longest]]
        end = encoding.offsets[tokens[-drop]][0] - spans[fields[longest]].start
        texts[longest] = texts[longest][: max(end, 0)].rstrip()

    def _encoded(self, encoding: Any, owners: list[str | None], label: int) -> Encoded:
        length = len(encoding.ids)
        if self.form == "causal":  # some tokenizers close a text; the answer follows what is still open
            while length > 1 and encoding.special_tokens_mask[length - 1]:
                length -= 1
        answer = owners.index("mask") if self.form == "masked" and not self.plain else length - 1
        return Encoded(
            ids=np.array(encoding.ids[:length]),
            eligible=np.array([int(owner in self.task.fields) for owner in owners[:length]]),
            segments=np.array(encoding.type_ids[:length]),
            answer=answer,
            label=label,
        )


@functools.lru_cache(maxsize=8)
def tokenizer(location: str, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(location, revision=revision or "main")


def fill(template: str, values: dict[str, str]) -> tuple[str, dict[str, Span]]:
    """The template with its fields filled in, and where each stands."""
    made = ""
    spans: dict[str, Span] = {}
    for literal, name, _, _ in string.Formatter().parse(template):
        made += literal
        if name is not None:
            spans[name] = Span(0, len(made), len(made) + len(values[name]))
            made += values[name]
    return made, spans
