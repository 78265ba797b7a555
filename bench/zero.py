"""A DeepSpeed configuration, and what it offloads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from bench.settings import Settings

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
