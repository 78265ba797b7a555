"""What a launcher is: the way in which the ranks of a group are started."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.cluster import rank_supervisor
from bench.cluster.slots import Allocation
from bench.cluster.timeouts import Timeouts
from bench.core.settings import InputError, Problem

SUPERVISOR = rank_supervisor.__name__  # the module that launchers start for each rank

# variables of the user that every rank has, wherever it runs; what a host has set itself goes before
FORWARDED = (
    *("BENCH_", "CUDA_", "DATASETS_", "DS_", "FI_", "GLOO_", "HF_", "KMP_", "MKL_", "NCCL_", "OMP_", "PYTORCH_"),
    *("RDMAV_", "TOKENIZERS_", "TORCH", "TRANSFORMERS_", "TRITON_", "UCX_", "http_proxy", "https_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
KEPT_HERE = ("CUDA_VISIBLE_DEVICES", "BENCH_PULSE", "BENCH_HOST")  # what they say holds for one process


@dataclass(frozen=True)
class Group:
    """One group of processes, before it is started."""

    allocation: Allocation
    slots: Mapping[str, int]  # of each of its hosts, in all
    work: Path  # its folder, on disk that all its hosts share; group.json is there
    address: str  # where rank 0 listens, as the other hosts reach it
    port: int
    arguments: tuple[str, ...] = ()  # further ones of the user, for what starts the ranks
    timeouts: Timeouts = Timeouts()  # of its run

    @property
    def hostfile(self) -> str:
        """Of its hosts, as deepspeed reads it."""
        return "".join(f"{host} slots={self.slots[host]}\n" for host in self.allocation.hosts)


class Launcher(Protocol):
    @property
    def name(self) -> str:
        """As `--launcher` takes it."""
        ...

    @property
    def hides(self) -> tuple[str, ...]:
        """How variables begin that its command is not to see."""
        ...

    def missing(self) -> str | None:
        """What this machine lacks for it, in a sentence with what to do; None: nothing."""
        ...

    def hosts(self) -> dict[str, int] | None:
        """Hosts and their slots where there is no hostfile; None: this machine. InputError when it needs one."""
        ...

    def command(self, group: Group) -> list[str]:
        """What starts `python -m SUPERVISOR WORK` for every rank of `group`, and lasts as long as they do."""
        ...

    def variables(self, group: Group) -> dict[str, str]:
        """To be set for the command, beside the user's own."""
        ...

    def address(self, host: str, timeouts: Timeouts) -> str:
        """Where the other hosts reach it. OSError when there is no telling."""
        ...

    def reachable(self, host: str, timeouts: Timeouts) -> bool:
        """Whether `host` answers; takes a few seconds if it does not."""
        ...

    def ends_by_signal(self, group: Group) -> bool:
        """Whether SIGTERM to the command ends the ranks of this group, and no others."""
        ...


def include(slots: Iterable[tuple[str, Iterable[int]]]) -> str:
    """Hosts and their slots as deepspeed's `--include` takes them: `a:0,1@b:0`."""
    return "@".join(f"{host}:{','.join(map(str, own))}" for host, own in slots)


def forwarded(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the user's environment goes to every rank."""
    return {name: one for name, one in environment.items() if name.startswith(FORWARDED) and name not in KEPT_HERE}


def plain(path: Path, what: str) -> str:
    """A path as it goes through a remote shell, which pdsh quotes for nobody. InputError when it would be torn."""
    if re.fullmatch(r"[\w@%+=:,./-]+", str(path), re.ASCII):
        return str(path)
    message = f"found {str(path)!r}, expected a path of letters, digits and @%+=:,./_- with several hosts"
    raise InputError("command line", [Problem(what, message)])
