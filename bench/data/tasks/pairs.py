"""GLUE's pairs of sentences.

Templates and answer words are those of LPT's code (xyltt/LPT @634c7b2, encoder-only/data/process.py and
decoder-only/data/utils.py). It has none of MNLI and QQP for decoders: they read as its other pairs do. Encoder-decoders
read what T5 does (Raffel et al. 2020, appendix D), without the task's name.
"""

from __future__ import annotations

from bench.data.tasks.base import Task, glue

DEV = ("validation",)  # the public dev set is the test
WITH_F1 = ("accuracy", "f1")
THEY_ARE = "{premise}{hypothesis} They are"
T5_INFERENCE = "hypothesis: {hypothesis} premise: {premise}"

PAIRS = (
    Task(
        name="mnli",
        folder="mnli",
        hub=glue("mnli"),
        splits={"train": ("train",), "test": ("validation_matched", "validation_mismatched")},
        fields=("premise", "hypothesis"),
        labels=("contradiction", "entailment", "neutral"),
        words=("No", "Yes", "Maybe"),
        masked="{premise} ? {mask} , {hypothesis}",
        causal=THEY_ARE,
        encoder_decoder=T5_INFERENCE,
    ),
    Task(
        name="mrpc",
        folder="mrpc",
        hub=glue("mrpc"),
        splits={"train": ("train",), "test": DEV},
        fields=("sentence1", "sentence2"),
        labels=(0, 1),
        words=("No", "Yes"),
        masked="{sentence1} ? {mask} , {sentence2}",
        causal="{sentence1}{sentence2} They are",
        metrics=WITH_F1,
    ),
    Task(
        name="qnli",
        folder="qnli",
        hub=glue("qnli"),
        splits={"train": ("train",), "test": DEV},
        fields=("question", "sentence"),
        labels=("entailment", "not_entailment"),
        words=("Yes", "No"),
        masked="{question} ? {mask} , {sentence}",
        causal="{question}{sentence} They are",
    ),
    Task(
        name="qqp",
        folder="qqp",
        hub=glue("qqp"),
        splits={"train": ("train",), "test": DEV},
        fields=("question1", "question2"),
        labels=(0, 1),
        words=("No", "Yes"),
        masked="{question1} {mask} , {question2}",
        causal="{question1}{question2} They are",
        metrics=WITH_F1,
    ),
    Task(  # SuperGLUE's too
        name="rte",
        folder="rte",
        hub=glue("rte", fields={"premise": "sentence1", "hypothesis": "sentence2"}),
        fewglue="fewglue/rte",
        splits={"train": ("train",), "test": DEV},
        fields=("premise", "hypothesis"),
        labels=("entailment", "not_entailment"),
        words=("Yes", "No"),
        masked="{premise} ? {mask} , {hypothesis}",
        causal=THEY_ARE,
        encoder_decoder="sentence1: {premise} sentence2: {hypothesis}",
    ),
)
