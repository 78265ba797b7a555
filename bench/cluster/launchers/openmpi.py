"""Ranks started by Open MPI's mpirun, through deepspeed's launcher.

DeepSpeed's OpenMPIRunner takes the whole hostfile and refuses `--include`, so every group has a hostfile of its own
slots. It also has MPI talk over `eth0`, there or not: nothing comes of that, since the ranks never call MPI.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from bench.cluster import ssh
from bench.cluster.launchers.base import SUPERVISOR, Group
from bench.cluster.launchers.deepspeed import DeepSpeed
from bench.cluster.timeouts import Timeouts
from bench.core import files

# rank i is the i-th slot of the hostfile; Open MPI alone would deal ranks to sockets, and bind each to a core
PLACED = ("--map-by", "slot", "--bind-to", "none")
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


class OpenMPI:
    name = "openmpi"
    hides = DeepSpeed.hides  # deepspeed puts them on mpirun's command line, too

    def missing(self) -> str | None:
        for program in ("mpirun", "ompi_info"):  # deepspeed looks for the second
            if shutil.which(program) is None:
                return f"{program} is not on PATH, expected Open MPI on this machine and every host"
        return None

    def hosts(self) -> dict[str, int] | None:
        return None

    def command(self, group: Group) -> list[str]:
        """The user's arguments are mpirun's."""
        return [
            *(sys.executable, "-m", "deepspeed.launcher.runner", "--launcher", "openmpi"),
            *("--hostfile", str(_hostfile(group.work)), "--force_multi", "--no_ssh_check"),
            *("--master_addr", group.address, "--master_port", str(group.port)),
            *(
                f"--launcher_args={shlex.join([*PLACED, *group.arguments])}",
                "--module",
                SUPERVISOR,
                str(group.work),
            ),
        ]

    def variables(self, group: Group) -> dict[str, str]:
        """Writes the hostfile that the command names, too."""
        lines = [f"{host} slots={len(slots)}\n" for host, slots in group.allocation.slots]
        files.write(_hostfile(group.work), "".join(lines))
        return AS_ROOT if os.geteuid() == 0 else {}

    def address(self, host: str, timeouts: Timeouts) -> str:
        return ssh.address_of(host, timeouts)

    def reachable(self, host: str, timeouts: Timeouts) -> bool:
        return ssh.reachable(host, timeouts)

    def ends_by_signal(self, group: Group) -> bool:
        """mpirun passes it on to its own ranks."""
        return True


def _hostfile(work: Path) -> Path:
    """Beside that of the hosts, which has all their slots."""
    return work / "slots"
