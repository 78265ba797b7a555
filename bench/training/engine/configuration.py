"""The DeepSpeed configuration of a cell."""

from __future__ import annotations

import copy
import os
from typing import Any

import torch

from bench.core.settings import Unsupported
from bench.matrix.cell import Cell
from bench.matrix.zero_config import OFFLOADS, Zero

QUANTIZED = ("zero_quantized_weights", "zero_quantized_nontrainable_weights", "zero_quantized_gradients")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def configuration(cell: Cell, trainable: int) -> dict[str, Any]:
    """The cell's DeepSpeed configuration with its batch sizes, precision and clipping set.

    DeepSpeed allocates the whole reduce bucket, so it is made no larger than the `trainable` elements that can
    ever be in it: a method with few of them is not charged for the room of many. Unsupported where this machine lacks
    what the configuration needs.
    """
    _check(cell.zero)
    config = copy.deepcopy(cell.zero.config)
    config.pop("train_batch_size", None)
    config["train_micro_batch_size_per_gpu"] = cell.micro
    config["gradient_accumulation_steps"] = cell.accumulation * cell.regularizer.passes
    config["gradient_clipping"] = cell.method.recipe.clip
    zero = config.setdefault("zero_optimization", {})
    if "reduce_bucket_size" in zero:
        zero["reduce_bucket_size"] = min(zero["reduce_bucket_size"], trainable)
    if "zero_hpz_partition_size" in zero:  # ranks of one host, each host with all parameters
        zero["zero_hpz_partition_size"] = min(zero["zero_hpz_partition_size"], cell.ranks)
    for offload in (zero.get(name) or {} for name in OFFLOADS):
        if "nvme_path" in offload:
            offload["nvme_path"] = os.path.expandvars(offload["nvme_path"])
    for precision in ("bf16", "fp16"):
        config[precision] = {**config.get(precision, {}), "enabled": cell.precision == precision}
    return config


def _check(zero: Zero) -> None:
    settings = zero.config.get("zero_optimization", {})
    quantized = [name for name in QUANTIZED if settings.get(name)]
    if quantized and not torch.cuda.is_available():
        raise Unsupported(f"{zero.label}: {' and '.join(quantized)} need CUDA kernels, and there is no CUDA device")
