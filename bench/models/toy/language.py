"""The built-in language: its words, its sentences, and the labelled examples of its tasks.

Each sentence draws a value for each of 4 attributes. Its words come from the pools of those values (8 % from
the wrong one), or are fillers (35 %); in pretraining it ends in `answer: <word of one attribute's value>`.
Downstream tasks ask for one attribute, with the natural answer words or with foreign ones, which never answered
anything before. A change here is a new world: the backbones must be trained again.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

ATTRIBUTES = 4
POOL = 6  # words per value of an attribute
FILLERS = 16
LENGTHS = (8, 18)  # words in a sentence
FILLER_SHARE = 0.35
WRONG_SHARE = 0.08
SEED = 20230502


def _syllables() -> list[str]:
    """Two-syllable words that no natural language owns, in a fixed order."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words = [a + b for a, b in itertools.product(syllables, syllables)]
    Random(SEED).shuffle(words)
    return words


def vocabulary() -> dict[str, Any]:
    """`pools` [attribute][value][word], `answers` [attribute][value], `fillers`; all words differ."""
    words = iter(_syllables())

    def take(count: int) -> list[str]:
        return list(itertools.islice(words, count))

    pools = [[take(POOL), take(POOL)] for _ in range(ATTRIBUTES)]
    answers = [take(2) for _ in range(ATTRIBUTES)]
    return {"pools": pools, "answers": answers, "fillers": take(FILLERS)}


def sentences(count: int, seed: int | str) -> list[tuple[str, list[int]]]:
    """`count` sentences without their answer, each with the values of its attributes."""
    words, random = vocabulary(), Random(seed)
    made: list[tuple[str, list[int]]] = []
    for _ in range(count):
        values = [random.randrange(2) for _ in range(ATTRIBUTES)]
        text: list[str] = []
        for _ in range(random.randint(*LENGTHS)):
            if random.random() < FILLER_SHARE:
                text.append(random.choice(words["fillers"]))
                continue
            attribute = random.randrange(ATTRIBUTES)
            wrong = random.random() < WRONG_SHARE
            text.append(random.choice(words["pools"][attribute][values[attribute] ^ wrong]))
        made.append((" ".join(text), values))
    return made


def answered(count: int, seed: int | str, answer_seed: int | str) -> list[str]:
    """`count` sentences, each with the answer to one of its attributes: what the backbones learn from."""
    random, answers = Random(answer_seed), vocabulary()["answers"]
    texts: list[str] = []
    for text, values in sentences(count, seed):
        attribute = random.randrange(ATTRIBUTES)
        texts.append(f"{text} answer: {answers[attribute][values[attribute]]}")
    return texts


def examples(attribute: int, split: str) -> list[dict[str, Any]]:
    """The labelled sentences of a downstream task: fields sentence and label."""
    count = {"train": 2000, "test": 500}[split]
    made = sentences(count, f"{SEED}/{attribute}/{split}")
    return [{"sentence": text, "label": values[attribute]} for text, values in made]


def answer_words(attribute: int, natural: bool) -> tuple[str, str]:
    """The words for label 0 and 1. The foreign ones are words of sentences, which never followed `answer:`."""
    words = vocabulary()
    zero, one = words["answers"][attribute] if natural else [pool[0] for pool in words["pools"][attribute]]
    return zero, one
