"""The DeepSpeed configuration of a cell."""

from __future__ import annotations

import copy
from typing import Any

import torch

from bench.cells import Cell

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def configuration(cell: Cell, trainable: int) -> dict[str, Any]:
    """The cell's DeepSpeed configuration with its batch sizes, precision and clipping set.

    DeepSpeed allocates the whole reduce bucket, so it is made no larger than the `trainable` elements that can
    ever be in it: a method with few of them is not charged for the room of many.
    """
    config = copy.deepcopy(cell.zero.config)
    config.pop("train_batch_size", None)
    config["train_micro_batch_size_per_gpu"] = cell.micro
    config["gradient_accumulation_steps"] = cell.accumulation * cell.regularizer.passes
    config["gradient_clipping"] = cell.method.recipe.clip
    zero = config.setdefault("zero_optimization", {})
    if "reduce_bucket_size" in zero:
        zero["reduce_bucket_size"] = min(zero["reduce_bucket_size"], trainable)
    for precision in ("bf16", "fp16"):
        config[precision] = {**config.get(precision, {}), "enabled": cell.precision == precision}
    return config
