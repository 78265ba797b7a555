"""SuperGLUE, and RTE, which is GLUE's too."""

from __future__ import annotations

from bench.tasks.base import Task

SUPERGLUE = (
    Task(
        name="rte",
        folder="rte",
        fewglue="fewglue/rte",
        splits={"train": ("train",), "test": ("validation",)},
        fields=("premise", "hypothesis"),
        labels=("entailment", "not_entailment"),
        words=("Yes", "No"),
        masked="{premise} ? {mask} , {hypothesis}",
        causal="{premise}{hypothesis} They are",
    ),
)
