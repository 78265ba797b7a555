"""The rule by which hyper-parameters are chosen; a run and the boards go by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def best(dev: Mapping[str, Sequence[float | None]]) -> str | None:
    """The candidate with the highest mean on dev, the first by name of equals.

    `dev`: the scores of each candidate, one for every tuning seed. With a None among them, which failed or was not
    run, it is out; None where all are.
    """
    means = {
        label: sum(known) / len(known)
        for label, scores in dev.items()
        if (known := [score for score in scores if score is not None]) and len(known) == len(scores)
    }
    return max(sorted(means), key=means.__getitem__, default=None)
