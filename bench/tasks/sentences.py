"""Single sentences: sentiment, opinion, subjectivity, kind of question.

Templates and answer words are those of LPT's code (xyltt/LPT @634c7b2, encoder-only/data/process.py and
decoder-only/data/utils.py), which took them from LM-BFF.
"""

from __future__ import annotations

from bench.tasks.base import Task

SENTENCES = (
    Task(
        name="sst2",
        folder="sst2",
        splits={"train": ("train",), "test": ("validation",)},
        fields=("sentence",),
        labels=(0, 1),
        words=("terrible", "great"),
        masked="{sentence} . It was {mask} .",
        causal="{sentence} It was",
    ),
    Task(
        name="trec",
        folder="trec",
        fields=("sentence",),
        labels=(0, 1, 2, 3, 4, 5),
        words=("Description", "Entity", "Expression", "Human", "Location", "Number"),
        masked="{mask} : {sentence}",
        causal="{sentence} It was",
    ),
)
