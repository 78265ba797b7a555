"""The answer words of a task as tokens: one known token each, and all different."""

from __future__ import annotations

from typing import Any

from bench.core.settings import InputError, Problem
from bench.data.tasks import Task
from bench.data.templates import tokenizer
from bench.models.backbones import Backbone


def tokens_of(tokenizer: Any, word: str) -> list[int]:
    """The tokens of a word that stands behind another."""
    encoding = tokenizer(f"a {word}", add_special_tokens=False)[0]
    return [token for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True) if start > 0]


def answer_ids(task: Task, backbone: Backbone, tokenizer: Any) -> list[int]:
    """The token of each answer word. InputError names the words that are none, or the same one as another."""
    tokens = [tokens_of(tokenizer, word) for word in task.words]
    problems: list[Problem] = []
    for c, (word, found) in enumerate(zip(task.words, tokens, strict=True)):
        shown = tokenizer.convert_ids_to_tokens(found)
        place = f"for label {task.labels[c]!r} in {task.template(backbone.form)!r}"
        message = f"{word!r}, {place}, is {shown} for the tokenizer of {backbone.label}"
        if len(found) != 1 or found[0] == tokenizer.unk_token_id:
            problems.append(Problem(f"words[{c}]", f"{message}, expected one known token: {_how(task)}"))
        elif found in tokens[:c]:
            other = task.words[tokens.index(found)]
            expected = f"and so is {other!r}, expected a token of its own: {_how(task)}"
            problems.append(Problem(f"words[{c}]", f"{message}, {expected}"))
    if problems:
        raise InputError(f"task {task.name}", problems)
    return [token for (token,) in tokens]


def check(task: Task, backbone: Backbone) -> None:
    """As `answer_ids`, before anything is loaded, where the tokenizer is on this machine for certain."""
    if backbone.source == "hub":
        return
    try:
        tokens = tokenizer(backbone.checkpoint, backbone.revision)
    except (OSError, ValueError, ImportError):
        return  # that it cannot be loaded is a failure of its cells
    answer_ids(task, backbone, tokens)


def _how(task: Task) -> str:
    """How to give others, in a matrix."""
    return f"give others as task: {{name: {task.name}, words: [{', '.join('...' for _ in task.words)}]}}"
