"""Tasks: fields, templates, answer words, metric, and where the data is. A task is data, with no code of its own.

Templates and answer words of SST-2, TREC and RTE are those of LPT's code (xyltt/LPT, encoder-only/data/process.py
and decoder-only/data/utils.py), which took them from LM-BFF; TREC's causal template is the one LPT's decoder uses
for every single-sentence task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bench import toy
from bench.settings import Problem, Settings, shown, unknown


class Task(Settings):
    name: str
    source: Literal["folder", "built-in", "random"]
    folders: tuple[str, ...] = ()  # below BENCH_DATA, the first that exists
    splits: dict[str, str]  # train, test and, where it is given, dev -> the name of its file
    fields: tuple[str, ...]  # one text, or two
    labels: tuple[int | str | bool, ...]  # the values of the field label, in class order
    words: tuple[str, ...]  # the answer word of each class
    masked: str  # template of masked-LM backbones: fields in braces, {mask} where the answer goes
    causal: str  # template of causal backbones: the answer follows
    metric: Literal["accuracy"] = "accuracy"

    @property
    def label(self) -> str:
        return self.name


def _built_in(attribute: int, natural: bool) -> Task:
    return Task(
        name=f"toy-{'natural' if natural else 'foreign'}-{attribute}",
        source="built-in",
        folders=(str(attribute),),
        splits={"train": "train", "test": "test"},
        fields=("sentence",),
        labels=(0, 1),
        words=toy.answer_words(attribute, natural),
        masked="{sentence} answer: {mask}",
        causal="{sentence} answer:",
    )


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
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *(_built_in(attribute, natural) for natural in (True, False) for attribute in range(toy.ATTRIBUTES)),
        Task(
            name="sst2",
            source="folder",
            folders=("sst2",),
            splits={"train": "train", "dev": "validation", "test": "test"},
            fields=("sentence",),
            labels=(0, 1),
            words=("terrible", "great"),
            masked="{sentence} . It was {mask} .",
            causal="{sentence} It was",
        ),
        Task(
            name="trec",
            source="folder",
            folders=("trec",),
            splits={"train": "train", "test": "test"},
            fields=("sentence",),
            labels=(0, 1, 2, 3, 4, 5),
            words=("Description", "Entity", "Expression", "Human", "Location", "Number"),
            masked="{mask} : {sentence}",
            causal="{sentence} It was",
        ),
        Task(
            name="rte",
            source="folder",
            folders=("rte", "fewglue/rte"),
            splits={"train": "train", "test": "validation"},
            fields=("premise", "hypothesis"),
            labels=("entailment", "not_entailment"),
            words=("Yes", "No"),
            masked="{premise} ? {mask} , {hypothesis}",
            causal="{premise}{hypothesis} They are",
        ),
        RANDOM,
    )
}


class Regime(Settings):
    """How much training data: everything, a total in the original class ratio, or so many of each class.

    `total` draws 1,000 further training examples as dev, as LPT does (fewer where fewer are left);
    `per_class` k draws k more of each class, as LM-BFF does; `full` takes the task's own dev split, else
    1,000 of the training examples, at most a tenth. Test is never touched.
    """

    total: int | None = None
    per_class: int | None = None

    @property
    def label(self) -> str:
        if self.total is not None:
            return f"total-{self.total}"
        return "full" if self.per_class is None else f"{self.per_class}-per-class"


def parse_task(value: object, path: str, problems: list[Problem]) -> Task | None:
    if isinstance(value, str) and value in TASKS:
        return TASKS[value]
    problems.append(Problem(path, unknown(value, TASKS)))
    return None


def parse_regime(value: object, path: str, problems: list[Problem]) -> Regime | None:
    if value == "full":
        return Regime()
    if isinstance(value, Mapping) and len(value) == 1:
        (key, count), *_ = value.items()
        if key in ("total", "per_class") and type(count) is int and count > 0:
            return Regime(**{key: count})
    expected = "expected full, {total: n} or {per_class: n} with n a positive whole number"
    problems.append(Problem(path, f"found {shown(value)}, {expected}"))
    return None
