"""How ranks are started: by deepspeed's launcher here or through pdsh, by mpirun, by srun, by an agent on each host."""

from dataclasses import replace
from pathlib import Path

from bench.launchers.agents import Agents
from bench.launchers.base import Group, Launcher, forwarded
from bench.launchers.deepspeed import DeepSpeed
from bench.launchers.openmpi import OpenMPI
from bench.launchers.slurm import Slurm
from bench.settings import InputError, Problem, unknown

_ALL: tuple[Launcher, ...] = (DeepSpeed(), OpenMPI(), Slurm(), Agents())
LAUNCHERS = {one.name: one for one in _ALL}
DEFAULT = DeepSpeed.name


def chosen(name: str, results: Path) -> Launcher:
    """The launcher of that name, for runs into `results`. InputError when there is none."""
    if name not in LAUNCHERS:
        raise InputError("command line", [Problem("--launcher", unknown(name, LAUNCHERS))])
    found = LAUNCHERS[name]
    return replace(found, results=results) if isinstance(found, Agents) else found


__all__ = ["DEFAULT", "LAUNCHERS", "Group", "Launcher", "chosen", "forwarded"]
