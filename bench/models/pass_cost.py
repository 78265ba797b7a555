"""What one pass through a backbone costs, as a regularizer describes its steps. Read without torch."""

from __future__ import annotations

from typing import NamedTuple

from bench.models.backbones import EMBEDDINGS


class PassCost(NamedTuple):
    """A part of what a step costs: a batch on its way through the layers."""

    start: int = EMBEDDINGS  # the depth it begins at
    stop: int | None = None  # without a backward to this depth; None: to the loss and back
    views: int = 1  # rows are so many times those of the batch
    times: int = 1
    gradient_from: int | None = None  # the depth that the backward goes down to; None: the method's first trainable
    text_from: int | None = None  # the depth at which the text itself gets a gradient
    weights: bool = True  # whether the weights get theirs
