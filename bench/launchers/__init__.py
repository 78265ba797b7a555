"""How ranks are started: by deepspeed's launcher here or through pdsh, by mpirun, by srun, by agents on the hosts."""

from bench.launchers.base import Group, Launcher, forwarded
from bench.launchers.deepspeed import DeepSpeed
from bench.settings import InputError, Problem, unknown

_ALL: tuple[Launcher, ...] = (DeepSpeed(),)
LAUNCHERS = {one.name: one for one in _ALL}
DEFAULT = DeepSpeed.name


def chosen(name: str) -> Launcher:
    """The launcher of that name. InputError when there is none."""
    if name not in LAUNCHERS:
        raise InputError("command line", [Problem("--launcher", unknown(name, LAUNCHERS))])
    return LAUNCHERS[name]


__all__ = ["DEFAULT", "LAUNCHERS", "Group", "Launcher", "chosen", "forwarded"]
