"""Ranks started by Slurm's srun, inside an allocation of salloc or sbatch: a job step for each group.

DeepSpeed's SlurmRunner passes its own `--include` on to srun, which has none, so srun is called here. Slurm 22.05
or newer.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping

from bench.cluster import ssh
from bench.cluster.launchers.base import SUPERVISOR, Group
from bench.cluster.timeouts import Timeouts
from bench.core.settings import InputError, Problem, shown

NO_JOB = "SLURM_JOB_ID is not set, expected to be inside salloc or sbatch (launch/slurm.sbatch)"
STEP = (
    "--overlap",  # steps run side by side, and each sees all the memory and GPUs that the job has on a host
    "--overcommit",  # as many ranks as there are GPUs, however many tasks or cores the job has asked for
    "--cpu-bind=none",
    "--mpi=none",  # ranks find one another by MASTER_ADDR; plugins of MPI would wait for MPI_Init
    "--export=ALL",  # sbatch --export=NONE holds for steps otherwise
)
# what the job asked for, which srun would ask for again: with SLURM_EXCLUSIVE it refuses --overlap, with
# SLURM_GPUS_PER_TASK no step starts, or each rank sees one GPU
INHERITED = (
    *("SLURM_CPUS_PER_", "SLURM_EXACT", "SLURM_EXCLUSIVE", "SLURM_GPUS", "SLURM_GPU_BIND", "SLURM_HINT"),
    *("SLURM_NTASKS", "SLURM_THREADS_PER_CORE", "SLURM_TRES_PER_TASK", "SRUN_CPUS_PER_TASK"),
)


class Slurm:
    name = "slurm"
    hides: tuple[str, ...] = INHERITED

    def missing(self) -> str | None:
        if shutil.which("srun") is None:
            return "srun is not on PATH, expected Slurm's on the host where `bench run` is"
        if "SLURM_JOB_ID" not in os.environ:
            return NO_JOB
        return None

    def hosts(self) -> dict[str, int] | None:
        if (found := allocation()) is None:
            raise InputError("command line", [Problem("--launcher slurm", NO_JOB)])
        return found

    def command(self, group: Group) -> list[str]:
        """Rank i is on the i-th host of the list, which `arbitrary` follows; the user's arguments are srun's.

        `--unbuffered` is left out: it gives ranks a terminal, and they write without buffers anyway.
        """
        hosts = [host for host, _ in group.allocation.ranked]
        place = [f"--nodes={len(group.allocation.hosts)}", f"--ntasks={len(hosts)}", f"--nodelist={','.join(hosts)}"]
        return [
            *("srun", *STEP, "--kill-on-bad-exit=1", "--distribution=arbitrary", *place, *group.arguments),
            *(sys.executable, "-u", "-m", SUPERVISOR, str(group.work)),
        ]

    def variables(self, group: Group) -> dict[str, str]:
        return {}

    def address(self, host: str, timeouts: Timeouts) -> str:
        """Of the name or address under which Slurm knows it: a node's own name need not resolve."""
        told = _scontrol("show", "node", host, "--oneliner").stdout
        known = re.search(r" NodeAddr=(\S+)", told)
        return ssh.address_of(known[1] if known else host, timeouts)

    def reachable(self, host: str, timeouts: Timeouts) -> bool:
        """Whether a step starts there."""
        own = {name: one for name, one in os.environ.items() if not name.startswith(INHERITED)}
        room = max(1, round(timeouts.reach))
        command = ["srun", *STEP, f"--immediate={room}", "--nodes=1", "--ntasks=1", f"--nodelist={host}", "true"]
        process = subprocess.Popen(
            command, env=own, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            return process.wait(timeouts.step) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            process.kill()
            process.wait()

    def ends_by_signal(self, group: Group) -> bool:
        """srun ends its step, and no other."""
        return True


def allocation() -> dict[str, int] | None:
    """The hosts of the job around this process, and their slots: GPUs, else tasks, else cores. None outside of one.

    How many GPUs a host has is told of this one only, so all must have as many. InputError names the variable that
    cannot be read.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return None
    hosts = _hosts(_variable("SLURM_JOB_NODELIST"))
    slots = _slots(os.environ, len(hosts))
    return dict(zip(hosts, slots, strict=True))


def _slots(variables: Mapping[str, str], hosts: int) -> list[int]:
    """Of each host."""
    if (here := _gpus(variables)) is not None:
        total = variables.get("SLURM_GPUS", "").rpartition(":")[2]  # --gpus=10 or a100:10, over all hosts
        if total and total != str(here * hosts):
            expected = f"expected {here * hosts}, {here} on each of {hosts} hosts (ask for them by --gpus-per-node)"
            raise _error("SLURM_GPUS", variables["SLURM_GPUS"], expected)
        return [here] * hosts
    for name in ("SLURM_GPUS", "SLURM_GPUS_PER_TASK"):
        if value := variables.get(name):
            raise _error(name, value, "expected to know how many each host has: ask for them by --gpus-per-node")
    name = "SLURM_TASKS_PER_NODE" if variables.get("SLURM_TASKS_PER_NODE") else "SLURM_JOB_CPUS_PER_NODE"
    value = _variable(name)
    counts = _counts(value)
    if counts is None:
        raise _error(name, value, "expected a number for each host, such as 2(x3),1")
    if len(counts) != hosts:
        raise _error(name, value, f"for {len(counts)} hosts, expected one number for each of {hosts}")
    return counts


def _gpus(variables: Mapping[str, str]) -> int | None:
    """Of one host; None where the job has not asked for any."""
    if indices := variables.get("SLURM_JOB_GPUS"):
        if not re.fullmatch(r"\d+(,\d+)*", indices):
            raise _error("SLURM_JOB_GPUS", indices, "expected GPUs, such as 0,1")
        return len(indices.split(","))
    for name in ("SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"):  # salloc knows only what was asked for: a100:2
        if value := variables.get(name):
            if not re.fullmatch(r"([^:,]+:)*[1-9]\d{0,5}", value):
                raise _error(name, value, "expected a number of GPUs")
            return int(value.rpartition(":")[2])
    return None


def _counts(value: str) -> list[int] | None:
    """`2(x3),1` as [2, 2, 2, 1]; None if it is something else."""
    parts = [re.fullmatch(r"(\d{1,6})(?:\(x(\d{1,6})\))?", part) for part in value.split(",")]
    counts = [int(part[1]) for part in parts if part for _ in range(int(part[2] or 1))]
    return counts if all(parts) and all(counts) else None


def _hosts(nodes: str) -> list[str]:
    """`n[1-3],m` as scontrol writes it out."""
    try:
        done = _scontrol("show", "hostnames", nodes)
    except OSError as error:
        raise _error("SLURM_JOB_NODELIST", nodes, f"expected scontrol on PATH to read it: {error.strerror}") from error
    if done.returncode != 0 or not done.stdout.split():
        raise _error("SLURM_JOB_NODELIST", nodes, f"scontrol cannot read it: {done.stderr.strip()}")
    return done.stdout.split()


def _scontrol(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=False)


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise InputError("Slurm's environment", [Problem(name, "not set, expected it inside an allocation")])
    return value


def _error(name: str, value: str, message: str) -> InputError:
    return InputError("Slurm's environment", [Problem(name, f"found {shown(value)}, {message}")])
