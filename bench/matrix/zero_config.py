"""A DeepSpeed configuration, and what it offloads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from bench.core.settings import Settings, shown

OURS = ("optimizer", "scheduler")  # which the engine would not read from there
BLOCKS = ("bf16", "fp16", "zero_optimization")
SIZES = ("reduce_bucket_size", "zero_hpz_partition_size")  # which we make smaller where they are larger than needed
OFFLOADS = ("offload_optimizer", "offload_param")  # in zero_optimization


def offload_of(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a DeepSpeed configuration says of one of OFFLOADS; `device` is none, cpu or nvme."""
    return {"device": "none", **(config.get("zero_optimization", {}).get(name) or {})}


class Zero(Settings):
    """A DeepSpeed configuration file, whole: batch sizes and precision in it are set from the cell."""

    name: str
    config: dict[str, Any]

    @property
    def label(self) -> str:
        return self.name

    @property
    def stage(self) -> int:
        return self.config.get("zero_optimization", {}).get("stage", 0)

    @property
    def unset(self) -> set[str]:
        """The environment variables that paths of this configuration name and that are not set."""
        paths = " ".join(str(offload_of(self.config, name).get("nvme_path", "")) for name in OFFLOADS)
        return {name for name in re.findall(r"\$\{?(\w+)", paths) if name not in os.environ}


def fault(config: Any) -> str | None:
    """What is wrong with what should be a DeepSpeed configuration, as far as it can be told without DeepSpeed."""
    if not isinstance(config, dict):
        return f"found {shown(config)}, expected a DeepSpeed configuration"
    if (found := _first_auto(config)) is not None:
        return f"{found}: found 'auto', which only Hugging Face's Trainer fills in: expected a value"
    for name in OURS:
        if name in config:
            return f"{name}: found {shown(config[name])}, expected none: the method's recipe says it"
    if wrong := [name for name in BLOCKS if not isinstance(config.get(name, {}), dict)]:
        return f"{wrong[0]}: found {shown(config[wrong[0]])}, expected a mapping"
    return _zero_fault(config.get("zero_optimization", {}))


def _zero_fault(zero: dict[str, Any]) -> str | None:
    stage = zero.get("stage", 0)
    if type(stage) is not int or stage not in (0, 1, 2, 3):
        return f"zero_optimization.stage: found {shown(stage)}, expected 0, 1, 2 or 3"
    for name in SIZES:
        if name in zero and (type(zero[name]) not in (int, float) or zero[name] < 1):
            return f"zero_optimization.{name}: found {shown(zero[name])}, expected a number from 1"
    for name in OFFLOADS:
        offload = zero.get(name) or {}
        if not isinstance(offload, dict) or not isinstance(offload.get("nvme_path", ""), str):
            return f"zero_optimization.{name}: found {shown(offload)}, expected a mapping with device, nvme_path a text"
        if offload.get("device", "none") not in ("none", "cpu", "nvme"):
            return f"zero_optimization.{name}.device: found {shown(offload['device'])}, expected none, cpu or nvme"
    return None


def _first_auto(config: Any, path: str = "") -> str | None:
    """The place of the first 'auto' in a configuration."""
    if not isinstance(config, dict):
        return path if config == "auto" else None
    places = (_first_auto(item, f"{path}.{key}".strip(".")) for key, item in config.items())
    return next((place for place in places if place is not None), None)
