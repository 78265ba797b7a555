"""Tasks that need no data: those of the built-in world, and random tokens."""

from __future__ import annotations

from bench.data.tasks.base import Task
from bench.models import toy


def _of_attribute(attribute: int, natural: bool) -> Task:
    return Task(
        name=f"toy-{'natural' if natural else 'foreign'}-{attribute}",
        source="built-in",
        folder=str(attribute),
        fields=("sentence",),
        labels=(0, 1),
        words=toy.answer_words(attribute, natural),
        masked="{sentence} answer: {mask}",
        causal="{sentence} answer:",
        encoder_decoder="{sentence} answer:",
    )


BUILT_IN = tuple(_of_attribute(attribute, natural) for natural in (True, False) for attribute in range(toy.ATTRIBUTES))
# two classes, every example as long as `max_length`: what cost-only cells run on
RANDOM = Task(
    name="random-tokens",
    source="random",
    splits={},
    fields=(),
    labels=(0, 1),
    words=("", ""),
    masked="",
    causal="",
)
