"""Single sentences: sentiment, opinion, subjectivity, kind of question.

Templates and answer words are those of LPT's code (xyltt/LPT @634c7b2, encoder-only/data/process.py and
decoder-only/data/utils.py), which took them from LM-BFF.
"""

from __future__ import annotations

from bench.tasks.base import Task


def _task(name: str, words: tuple[str, ...], masked: str = "{sentence} . It was {mask} .", test: str = "test") -> Task:
    return Task(
        name=name,
        folder=name,
        splits={"train": ("train",), "test": (test,)},
        fields=("sentence",),
        labels=tuple(range(len(words))),
        words=words,
        masked=masked,
        causal="{sentence} It was",
    )


KINDS = ("Description", "Entity", "Expression", "Human", "Location", "Number")  # of TREC's questions

SENTENCES = (
    _task("sst2", ("terrible", "great"), test="validation"),
    _task("mpqa", ("terrible", "great")),
    _task("mr", ("terrible", "great")),
    _task("subj", ("subjective", "objective")),
    _task("trec", KINDS, masked="{mask} : {sentence}"),
)
