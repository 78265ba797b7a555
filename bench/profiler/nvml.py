"""What the driver knows of a GPU and torch does not, by NVML (the extra `nvml`): energy, and memory in use.

None where there is no NVML, no GPU, or the device does not tell.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any, NamedTuple

import torch


class Gpu(NamedTuple):
    library: Any  # pynvml, or what stands in for it
    handle: Any

    def millijoules(self) -> int | None:
        """Since the driver was loaded."""
        try:
            return self.library.nvmlDeviceGetTotalEnergyConsumption(self.handle)
        except self.library.NVMLError:
            return None

    def used_bytes(self, process: int) -> int | None:
        """By one process. In a container processes may have other numbers, and then it is unknown."""
        try:
            running = self.library.nvmlDeviceGetComputeRunningProcesses(self.handle)
        except self.library.NVMLError:
            return None
        used = [one.usedGpuMemory for one in running if one.pid == process]
        return None if not used or None in used else sum(used)


@functools.cache
def gpu(device: torch.device) -> Gpu | None:
    """By its uuid: NVML counts all devices, torch those that CUDA_VISIBLE_DEVICES leaves."""
    if device.type != "cuda":
        return None
    try:
        library: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    return find(library, str(torch.cuda.get_device_properties(device).uuid))  # pyright: ignore -- untyped in torch


def find(library: Any, uuid: str) -> Gpu | None:
    try:
        library.nvmlInit()
        return Gpu(library, library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
    except library.NVMLError:  # no driver, or a slice of a device
        return None


def millijoules(device: torch.device) -> int | None:
    """That `device` has used since its driver was loaded, by whomever."""
    found = gpu(device)
    return None if found is None else found.millijoules()


def outside_allocator_bytes(device: torch.device) -> int | None:
    """What this process has in use on `device` besides torch's allocator: the context, NCCL's buffers."""
    found = gpu(device)
    used = None if found is None else found.used_bytes(os.getpid())
    return None if used is None else used - torch.cuda.memory_reserved(device)
