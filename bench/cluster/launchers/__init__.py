"""How ranks are started: by deepspeed's launcher here or through pdsh, by mpirun, by srun, by agents on the hosts."""

from collections.abc import Callable
from pathlib import Path

from bench.cluster.launchers.agents import Agents
from bench.cluster.launchers.base import Group, Launcher, forwarded
from bench.cluster.launchers.deepspeed import DeepSpeed
from bench.cluster.launchers.openmpi import OpenMPI
from bench.cluster.launchers.slurm import Slurm
from bench.core.settings import InputError, Problem, unknown

# of the results folder, where agents are met
LAUNCHERS: dict[str, Callable[[Path], Launcher]] = {
    DeepSpeed.name: lambda results: DeepSpeed(),
    OpenMPI.name: lambda results: OpenMPI(),
    Slurm.name: lambda results: Slurm(),
    Agents.name: Agents,
}
DEFAULT = DeepSpeed.name


def chosen(name: str, results: Path) -> Launcher:
    """The launcher of that name. InputError when there is none."""
    if name == "no_ssh":
        raise InputError("command line", [Problem("--launcher", "no_ssh is called agents now")])
    if name not in LAUNCHERS:
        raise InputError("command line", [Problem("--launcher", unknown(name, LAUNCHERS))])
    return LAUNCHERS[name](results)


__all__ = ["DEFAULT", "LAUNCHERS", "DeepSpeed", "Group", "Launcher", "chosen", "forwarded"]
