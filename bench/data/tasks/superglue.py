"""SuperGLUE, with FewGLUE's folders, and what makes rows of those tasks whose answer is more than a class.

BoolQ, MultiRC and WiC read as in P-tuning's first patterns (THUDM/P-tuning @9857868,
PT-Fewshot/data_utils/task_pvps.py), without the trainable word `the` in them; [SEP] stands between WiC's sentences
there, which are one text here. CB reads as LPT's MNLI. Of COPA and WSC the model there writes the answer out, in many
masks; here an answer is one word, and the wording of both is ours, on the same patterns. What a linear head reads of
COPA, MultiRC, WiC and WSC is our wording, too. Encoder-decoders read what T5 does (Raffel et al. 2020, appendix D),
without the task's name; of WSC the fields, since T5 writes that answer out as well.

MultiRC's examples are answers: `total` and `per_class` count those, and dev, drawn from train, has answers to questions
that are in train, too. Scores on it choose weights and hyper-parameters and are no result.

FewGLUE's 32 training examples of WSC are all of one class, as they were made for writing the answer out.

ReCoRD is not here: its answer is one of the entities of its passage, other ones in each example and of several tokens
each, where the form of all tasks here is one answer word for each class.
"""

from __future__ import annotations

import string
from typing import Any, TypeVar

from bench.core.settings import shown
from bench.data.tasks.base import Task, super_glue
from bench.data.tasks.pairs import DEV, T5_INFERENCE, THEY_ARE

RECORD = "record is not here: its answer is an entity of its passage, not one of a few words"
CONNECTIVES = {"cause": "because", "effect": "so"}

T = TypeVar("T")
Row = dict[str, Any]

SUPERGLUE = (
    Task(
        name="boolq",
        folder="boolq",
        hub=super_glue("boolq"),
        fewglue="fewglue/boolq",
        splits={"train": ("train",), "test": DEV},
        fields=("passage", "question"),
        labels=(False, True),
        words=("No", "Yes"),
        masked="{passage}. Question: {question}? Answer: {mask}.",
        causal="{passage}. Question: {question}? Answer:",
    ),
    Task(
        name="cb",
        folder="cb",
        hub=super_glue("cb"),
        fewglue="fewglue/cb",
        splits={"train": ("train",), "test": DEV},
        fields=("premise", "hypothesis"),
        labels=("contradiction", "entailment", "neutral"),
        words=("No", "Yes", "Maybe"),
        masked="{premise} ? {mask} , {hypothesis}",
        causal=THEY_ARE,
        encoder_decoder=T5_INFERENCE,
        metrics=("macro_f1", "accuracy"),
    ),
    Task(
        name="copa",
        folder="copa",
        hub=super_glue("copa"),
        fewglue="fewglue/copa",
        splits={"train": ("train",), "test": DEV},
        form=f"{__name__}:copa",
        fields=("premise", "choice1", "choice2", "question", "connective"),
        fixed=("question", "connective"),
        labels=(0, 1),
        words=("first", "second"),
        masked="{choice1} or {choice2} ? {premise} , {connective} the {mask} one .",
        causal="{choice1} or {choice2} ? {premise} , {connective} the",
        encoder_decoder="choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}",
        plain=("{premise} , {connective}", "{choice1} or {choice2}"),
    ),
    Task(
        name="multirc",
        folder="multirc",
        hub=super_glue("multirc"),
        fewglue="fewglue/multirc",
        splits={"train": ("train",), "test": DEV},
        form=f"{__name__}:multirc",
        fields=("passage", "question", "answer"),
        labels=(0, 1),
        words=("No", "Yes"),
        masked="{passage}. Question: {question}? Is it {answer}? {mask}.",
        causal="{passage}. Question: {question}? Is it {answer}?",
        encoder_decoder="question: {question} answer: {answer} paragraph: {passage}",
        plain=("{passage}", "{question} {answer}"),
        metrics=("f1",),  # F1a
    ),
    Task(
        name="wic",
        folder="wic",
        hub=super_glue("wic"),
        fewglue="fewglue/wic",
        splits={"train": ("train",), "test": DEV},
        fields=("sentence1", "sentence2", "word"),
        labels=(False, True),
        words=("No", "Yes"),
        masked="{sentence1} {sentence2} *{word}*? {mask}",
        causal="{sentence1} {sentence2} *{word}*?",
        plain=("{word} : {sentence1}", "{sentence2}"),
    ),
    Task(
        name="wsc",
        folder="wsc",
        hub=super_glue("wsc.fixed"),
        fewglue="fewglue/wsc",
        splits={"train": ("train",), "test": DEV},
        form=f"{__name__}:wsc",
        fields=("text", "pronoun", "target"),
        labels=(False, True),
        words=("No", "Yes"),
        masked="{text} The pronoun '*{pronoun}*' refers to {target}? {mask}.",
        causal="{text} The pronoun '*{pronoun}*' refers to {target}?",
        plain=("{text}", "{pronoun} : {target}"),
    ),
)


def copa(row: Row) -> list[Row]:
    """The choices as they go on from a connective, which stands for the question."""
    question = _get(row, "question", str)
    if question not in CONNECTIVES:
        raise ValueError(f"field question: found {shown(question)}, expected one of {', '.join(CONNECTIVES)}")
    premise = _get(row, "premise", str).rstrip(string.punctuation)
    choices = {name: _continuing(_get(row, name, str)) for name in ("choice1", "choice2")}
    return [{**row, **choices, "premise": premise, "connective": CONNECTIVES[question]}]


def multirc(row: Row) -> list[Row]:
    """A row for each answer: of SuperGLUE's files, where a passage holds its questions, or of one such row.

    The latter are the hub's, with the fields paragraph, question, answer and label.
    """
    if "passage" not in row:
        return [{**row, "passage": _get(row, "paragraph", str)}]
    passage = _get(row, "passage", dict)
    text = _get(passage, "text", str, "passage.")
    return [
        {
            "passage": text,
            "question": _get(question, "question", str, f"{place}."),
            "answer": _get(answer, "text", str, f"{place}.answers[{j}]."),
            "label": _get(answer, "label", int, f"{place}.answers[{j}]."),
        }
        for place, question in _items(passage, "questions", "passage.")
        for j, (_, answer) in enumerate(_items(question, "answers", f"{place}."))
    ]


def wsc(row: Row) -> list[Row]:
    """The pronoun in stars, as in P-tuning and T5.

    `span2_index` counts the text's words. SuperGLUE's files have the spans below `target`, the hub beside the text.
    """
    spans, place = (_get(row, "target", dict), "target.") if "target" in row else (row, "")
    words = _get(row, "text", str).split()
    index = _get(spans, "span2_index", int, place)
    if not 0 <= index < len(words):
        raise ValueError(f"field {place}span2_index: found {index}, expected 0..{len(words) - 1}")
    words[index] = f"*{words[index]}*"
    found = {
        "text": " ".join(words),
        "pronoun": _get(spans, "span2_text", str, place),
        "target": _get(spans, "span1_text", str, place),
    }
    return [{**row, **found}]


def _continuing(sentence: str) -> str:
    """As what goes on from something else: from a small letter, and open."""
    return (sentence[:1].lower() + sentence[1:]).rstrip(string.punctuation)


def _get(row: Any, name: str, kind: type[T], place: str = "") -> T:
    """The field `name`. KeyError and ValueError name it with the `place` that it is in."""
    if not isinstance(row, dict):
        raise ValueError(f"field {place.rstrip('.')}: found {shown(row)}, expected a mapping with {name}")
    if name not in row:
        raise KeyError(f"{place}{name}")
    if not isinstance(row[name], kind):
        raise ValueError(f"field {place}{name}: found {shown(row[name])}, expected {EXPECTED[kind]}")
    return row[name]


EXPECTED: dict[type[Any], str] = {str: "a text", int: "a whole number", dict: "a mapping", list: "a list"}


def _items(row: Any, name: str, place: str) -> list[tuple[str, Any]]:
    """The members of a list, each with its place."""
    return [(f"{place}{name}[{i}]", one) for i, one in enumerate(_get(row, name, list, place))]
