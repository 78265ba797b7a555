"""How ranks are started: by deepspeed's launcher here or through pdsh, by mpirun, by srun, by an agent on each host."""

from bench.launchers.base import Group, Launcher, forwarded
from bench.launchers.deepspeed import DeepSpeed
from bench.launchers.openmpi import OpenMPI
from bench.launchers.slurm import Slurm
from bench.settings import InputError, Problem, unknown

_ALL: tuple[Launcher, ...] = (DeepSpeed(), OpenMPI(), Slurm())
LAUNCHERS = {one.name: one for one in _ALL}
DEFAULT = DeepSpeed.name


def chosen(name: str) -> Launcher:
    """The launcher of that name. InputError when there is none."""
    if name not in LAUNCHERS:
        raise InputError("command line", [Problem("--launcher", unknown(name, LAUNCHERS))])
    return LAUNCHERS[name]


__all__ = ["DEFAULT", "LAUNCHERS", "Group", "Launcher", "chosen", "forwarded"]
