"""Which process a run is, and whether it is surely no more; other processes and other machines can ask."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunIdentity:
    """The process of a run, as its lease names it."""

    run: str  # the name of its folder
    user: str
    host: str
    pid: int
    start: int | None  # of the process, in the kernel's ticks since boot, which setting the clock does not move
    boot: str | None  # of the machine; None: unknown
    namespace: str | None  # in which the pid counts

    @classmethod
    def here(cls, run: str) -> RunIdentity:
        """This process."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container may have no name for it
            user = str(os.getuid())
        found = _process(os.getpid())
        return cls(run, user, socket.gethostname(), os.getpid(), found[1] if found else None, _boot(), _namespace())

    def __str__(self) -> str:
        return f"{self.user}@{self.host}, pid {self.pid}"

    def ended(self) -> bool:
        """Whether the process is surely no more; False where that cannot be told from here."""
        if None in (self.boot, self.namespace) or (self.boot, self.namespace) != (_boot(), _namespace()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it is another user's
        found = _process(self.pid)  # None where /proc hides others' processes
        return found is not None and (found[0] in "ZX" or found[1] != self.start)


def _process(pid: int) -> tuple[str, int] | None:
    """State and start, from /proc/<pid>/stat; None where that cannot be read."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return after_name[0], int(after_name[19])


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None


def _namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
