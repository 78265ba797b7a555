"""Whether this machine may have GPUs, known without torch, which takes seconds to import."""

from __future__ import annotations

import os
from pathlib import Path

DRIVERS = ("nvidiactl", "kfd", "dxg")  # devices of CUDA, of ROCm, and of CUDA in WSL


def gpus_possible() -> bool:
    """Whether a driver is loaded and DS_ACCELERATOR does not ask for another device."""
    wanted = os.environ.get("DS_ACCELERATOR", "cuda") == "cuda"
    return wanted and any(Path("/dev", name).exists() for name in DRIVERS)
