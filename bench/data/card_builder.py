"""The card of a few-shot sample, made from its splits."""

from __future__ import annotations

from bench.data import tasks
from bench.data.splits import Splits
from bench.data.tasks import Regime, Task
from bench.records.sample_cards import Card


def card(task: Task, regime: Regime, seed: int, splits: Splits) -> Card:
    """The card of a sample that `splits` were drawn for."""
    train, dev = splits.chosen
    counts = {
        str(label): tuple(sum(one.label == c for one in part) for part in (splits.train, splits.dev, splits.test))
        for c, label in enumerate(task.labels)
    }
    return Card.model_validate(
        {
            "sample": splits.sample,
            "task": tasks.label(task),
            "regime": regime.label,
            "seed": seed,
            "origin": splits.origin,
            "data": splits.data,
            "train": None if regime.label == "full" else train,
            "dev": dev or None,
            "classes": counts,
        }
    )
