"""The process group."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from torch import Tensor

from bench.cluster.heartbeat import pulse

WAIT = timedelta(days=1)  # of a rank in a collective: for how long it may hang, the run says
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class World:
    """The process group this process is in."""

    rank: int
    size: int
    device: torch.device
    host: str

    @classmethod
    def join(cls) -> World:
        """Joins the group the deepspeed launcher set up; a process without a launcher is a group of one."""
        if "RANK" not in os.environ:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]))
            os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_SIZE="1")
        _leave_out_shared_memory()
        deepspeed.init_distributed(auto_mpi_discovery=False, timeout=WAIT)
        accelerator: Any = get_accelerator()
        device = torch.device("cpu")
        if accelerator.device_name() != "cpu":  # LOCAL_RANK, not RANK, is a device index
            device = torch.device(accelerator.device_name(int(os.environ["LOCAL_RANK"])))
            accelerator.set_device(device.index)
        dist = torch.distributed
        host = os.environ.get("BENCH_HOST") or socket.gethostname()  # as a hostfile has it
        return cls(dist.get_rank(), dist.get_world_size(), device, host)

    @classmethod
    def pretend(cls, size: int) -> World:
        """Rank 0 of `size` ranks that are not there: torch's fake process group, for one CPU process."""
        from torch.testing._internal.distributed.fake_pg import FakeStore

        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE=str(size), LOCAL_SIZE="1")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29500")  # read, and not opened
        torch.distributed.init_process_group("fake", rank=0, world_size=size, store=FakeStore())
        _leave_out_shared_memory()
        deepspeed.init_distributed("fake", auto_mpi_discovery=False, dist_init_required=False)
        return cls(0, size, torch.device("cpu"), socket.gethostname())

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, in the order of ranks."""
        pulse.count_progress()
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def merge(self, part: Mapping[K, V]) -> dict[K, V]:
        """What all ranks have, each a part."""
        merged: dict[K, V] = {}
        for one in self.gather(part):
            merged.update(one)
        return merged

    def mean(self, value: Tensor) -> Tensor:
        """The mean over ranks of a tensor, in fp32."""
        value = value.detach().float().clone()
        torch.distributed.all_reduce(value)
        return value / self.size

    def any(self, flag: bool) -> bool:
        return any(self.gather(flag))

    def leave(self) -> None:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _leave_out_shared_memory() -> None:
    """DeepSpeed's collectives by shared memory are compiled for 40 s on first use and need a compiler.

    With gloo a step of a small model took the same time on two ranks.
    """
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
