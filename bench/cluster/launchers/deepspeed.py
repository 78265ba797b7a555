"""DeepSpeed's own launcher: on this machine, and through pdsh on others."""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path

from bench.cluster import ssh
from bench.cluster.launchers.base import SUPERVISOR, Group, include, plain
from bench.cluster.timeouts import Timeouts


class DeepSpeed:
    """`deepspeed --hostfile ... --include ...`, one command for each group."""

    name = "pdsh"
    # it puts them on command lines, which logs and everybody on a host can read; ranks get them from their guard
    hides = ("MLFLOW", "MV2", "NCCL", "UCX")

    def missing(self) -> str | None:
        return None if shutil.which("pdsh") else "pdsh is not installed (on Debian: apt-get install pdsh)"

    def hosts(self) -> dict[str, int] | None:
        return None

    def command(self, group: Group) -> list[str]:
        hostfile = group.work / "hostfile"
        made = [
            *(sys.executable, "-m", "deepspeed.launcher.runner", "--hostfile", str(hostfile)),
            *("--include", include(group.allocation.slots), "--no_ssh_check"),
            *("--master_addr", group.address, "--master_port", str(group.port)),
        ]
        work = str(group.work)
        if not _local(group):
            made += ["--launcher", "pdsh", "--force_multi"]  # without it one host means this one
            plain(Path.cwd(), "the current folder")
            plain(Path(sys.executable), "python")
            work = plain(group.work, "--results")
        return [*made, *group.arguments, "--module", SUPERVISOR, work]

    def variables(self, group: Group) -> dict[str, str]:
        return {}

    def address(self, host: str, timeouts: Timeouts) -> str:
        return ssh.address_of(host, timeouts)

    def reachable(self, host: str, timeouts: Timeouts) -> bool:
        return ssh.reachable(host, timeouts)

    def ends_by_signal(self, group: Group) -> bool:
        """Through pdsh it would end every launcher of this user on these hosts: DeepSpeed calls pkill for it."""
        return _local(group)


def _local(group: Group) -> bool:
    return len(group.allocation.hosts) == 1 and _is_here(group.allocation.hosts[0], group.timeouts.resolve)


_is_here = functools.cache(ssh.is_here)
