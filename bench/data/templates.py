"""From an example to tokens: template, answer position, and which tokens are the user's words.

A text is tokenised as a whole, as the backbone saw text in pretraining; the offsets of its tokens tell which
characters came from a field and which from the template.
"""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bench.core.settings import InputError, Problem
from bench.data.tasks import Task

CHUNK = 1000  # texts that are tokenised at once
TEMPLATE = -1  # whose a token is that is no field's: the template's, or special


@dataclass(frozen=True)
class Encoded:
    ids: np.ndarray  # [T] int64
    perturbable: np.ndarray  # [T] int64: 1 on tokens of a field
    segments: np.ndarray  # [T] int64
    answer: int  # position
    label: int


@dataclass(frozen=True)
class Span:
    """Where a field, the mask or words of the template stand: characters `start` to `end` of one of the sequences."""

    name: str | None  # of the field, or mask; None: the template's
    sequence: int
    start: int
    end: int


class Filled(NamedTuple):
    """What goes to the tokenizer, and what is where in it."""

    sequences: tuple[str, ...]  # one or two
    spans: list[Span]


class Tokens(NamedTuple):
    """A tokenised example."""

    encoding: Any
    spans: list[Span]
    starts: np.ndarray  # [T] first character of each token
    owners: np.ndarray  # [T] position in `Templater.owned`, or TEMPLATE


@dataclass(frozen=True)
class Templater:
    """Encodes the examples of one task for one tokenizer and head."""

    task: Task
    tokenizer: Any
    form: str  # of the backbone: masked, causal or encoder_decoder
    plain: bool  # the task's sequences, without an answer: what a linear head reads
    max_length: int

    def encode(self, texts: Sequence[str], label: int) -> Encoded:
        """Texts that are too long are cut at their end, the longest first; the template stays whole."""
        return self.encode_all([texts], [label])[0]

    def encode_all(self, examples: Sequence[Sequence[str]], labels: Sequence[int]) -> list[Encoded]:
        """As `encode`, many at once."""
        made: list[Encoded] = []
        for start in range(0, len(examples), CHUNK):
            part = examples[start : start + CHUNK]
            found = map(self._fitting, part, self._tokenize(part))
            made += map(self._encoded, found, labels[start : start + CHUNK])
        return made

    @functools.cached_property
    def templates(self) -> tuple[str, ...]:
        """What is filled in: one text, or the two of a pair as the tokenizer writes pairs."""
        if not self.plain:
            return (self.task.template(self.form),)
        return (" ".join(self.task.sequences),) if self.form == "causal" else self.task.sequences

    @functools.cached_property
    def owned(self) -> tuple[str, ...]:
        """What tokens may belong to."""
        return (*self.task.fields, "mask")

    @functools.cached_property
    def perturbed(self) -> np.ndarray:
        """[owned + 1] int64: 1 for those whose tokens are eligible; the last is TEMPLATE."""
        fields = [int(name not in self.task.fixed) for name in self.task.fields]
        return np.array([*fields, 0, 0])

    def _tokenize(self, examples: Sequence[Sequence[str]]) -> list[Tokens]:
        filled = [self._fill(texts) for texts in examples]
        core = self.tokenizer.backend_tokenizer
        core.no_truncation()
        core.no_padding()
        encodings = core.encode_batch(
            [one.sequences[0] if len(one.sequences) == 1 else one.sequences for one in filled]
        )
        return [self._found(encoding, one.spans) for encoding, one in zip(encodings, filled, strict=True)]

    def _fill(self, texts: Sequence[str]) -> Filled:
        mask = self.tokenizer.mask_token or ""
        values = dict(zip(self.task.fields, texts, strict=True)) | {"mask": mask}
        made = [fill(template, values, i) for i, template in enumerate(self.templates)]
        return Filled(tuple(text for text, _ in made), [span for _, spans in made for span in spans])

    def _found(self, encoding: Any, spans: list[Span]) -> Tokens:
        """Whose each token is. One with characters of field and template is the template's; special ones have none."""
        offsets = np.array(encoding.offsets).reshape(-1, 2)
        starts, ends = offsets[:, 0], offsets[:, 1]
        owners = np.full(len(starts), TEMPLATE)
        # of two fields without anything between them the first has the token that they share; a mask token may take in
        # the space before it
        for span in sorted(spans, key=lambda span: (span.name == "mask", span.name is None, -span.start)):
            holds = (starts < span.end) & (ends > span.start)
            if len(self.templates) > 1:
                holds &= np.array([sequence == span.sequence for sequence in encoding.sequence_ids])
            owners[holds] = TEMPLATE if span.name is None else self.owned.index(span.name)
        return Tokens(encoding, spans, starts, owners)

    def _fitting(self, texts: Sequence[str], tokens: Tokens) -> Tokens:
        """The tokens of `texts`, cut until they are no more than `max_length`."""
        texts = list(texts)
        while (excess := len(tokens.owners) - self.max_length) > 0:
            self._cut(texts, tokens, excess)
            (tokens,) = self._tokenize([texts])
        return tokens

    def _cut(self, texts: list[str], tokens: Tokens, excess: int) -> None:
        """Shortens the text with most tokens, down to the length of the next at most."""
        fields = self.task.fields
        counts = sorted(((int((tokens.owners == i).sum()), i) for i in range(len(fields))), reverse=True)
        most, longest = counts[0]
        second = counts[1][0] if len(counts) > 1 else 0
        drop = min(excess, max(most - second, 1))
        if most <= drop:
            message = f"found {self.max_length}, too short for the template of task {self.task.name}"
            raise InputError("cell", [Problem("max_length", message)])
        places = [span for span in tokens.spans if span.name == fields[longest]]
        first = np.flatnonzero(tokens.owners == longest)[: math.ceil(most / len(places))]  # those of its first place
        end = int(tokens.starts[first[-math.ceil(drop / len(places))]]) - places[0].start
        texts[longest] = texts[longest][: max(end, 0)].rstrip()

    def _encoded(self, tokens: Tokens, label: int) -> Encoded:
        encoding, owners = tokens.encoding, tokens.owners
        length = len(owners)
        if self.form == "causal":  # some tokenizers close a text; the answer follows what is still open
            special = encoding.special_tokens_mask
            while length > 1 and special[length - 1]:
                length -= 1
        masked = self.form == "masked" and not self.plain
        return Encoded(
            ids=np.array(encoding.ids[:length]),
            perturbable=self.perturbed[owners[:length]],
            segments=np.array(encoding.type_ids[:length]),
            answer=int(np.flatnonzero(owners == self.owned.index("mask"))[0]) if masked else length - 1,
            label=label,
        )


def fill(template: str, values: Mapping[str, str], sequence: int = 0) -> tuple[str, list[Span]]:
    """The template with its fields filled in, and where they and its own words stand."""
    made = ""
    spans: list[Span] = []
    for literal, before, words, name in _pieces(template):
        if words:
            spans.append(Span(None, sequence, len(made) + before, len(made) + before + words))
        made += literal
        if name is not None:
            spans.append(Span(name, sequence, len(made), len(made) + len(values[name])))
            made += values[name]
    return made, spans


@functools.lru_cache(maxsize=64)
def _pieces(template: str) -> list[tuple[str, int, int, str | None]]:
    """What stands before each field and after the last: text, characters of space before its words, of its words."""
    return [
        (literal, len(literal) - len(literal.lstrip()), len(literal.strip()), name)
        for literal, name, _, _ in string.Formatter().parse(template)
    ]


@functools.lru_cache(maxsize=8)
def tokenizer(location: str, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(location, revision=revision or "main", trust_remote_code=False)
