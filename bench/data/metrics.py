"""Metrics of classification, as GLUE and SuperGLUE have them."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

DIGITS = string.digits + string.ascii_lowercase  # a class as one character: no task has more classes
Metric = Callable[[Sequence[int], Sequence[int]], float]  # classes, predicted classes -> 0..1


def accuracy(classes: Sequence[int], predicted: Sequence[int]) -> float:
    return sum(map(int.__eq__, classes, predicted)) / len(classes)


def f1(classes: Sequence[int], predicted: Sequence[int]) -> float:
    """Of class 1, as in MRPC and QQP, and in MultiRC over all answer options (F1a)."""
    return _f1(classes, predicted, "binary")


def macro_f1(classes: Sequence[int], predicted: Sequence[int]) -> float:
    """The mean over the classes, as in CB."""
    return _f1(classes, predicted, "macro")


def _f1(classes: Sequence[int], predicted: Sequence[int], average: str) -> float:
    from sklearn import metrics

    score: Any = metrics.f1_score
    return float(score(classes, predicted, average=average, zero_division=0))


METRICS: dict[str, Metric] = {"accuracy": accuracy, "f1": f1, "macro_f1": macro_f1}


def scores(
    metrics: Sequence[str], classes: Sequence[int], predicted: Sequence[int], parts: Mapping[str, int]
) -> dict[str, float]:
    """By metric and, where there are several, by part: so many examples of each, one part behind the other."""
    found: dict[str, float] = {}
    start = 0
    for part, count in parts.items():
        for metric in metrics:
            name = f"{metric} {part}" if len(parts) > 1 else metric
            found[name] = METRICS[metric](classes[start : start + count], predicted[start : start + count])
        start += count
    return found


def mean(found: Mapping[str, float]) -> float:
    """The score of a task: the mean of what `scores` gives."""
    return sum(found.values()) / len(found)
