"""From pending cells to groups of processes that serve them, and a record for every cell whose processes died.

Records are trusted, exit codes are not: killing DeepSpeed's own launcher makes `deepspeed` exit 0. Groups are placed on
slots, widest first, and fed with cells one by one, so that no slot waits while there are cells that it could run. Which
run works on a cell is said by claims in the results folder, which several runs may share.
"""

from __future__ import annotations

import contextlib
import functools
import random
import shlex
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.cluster import launchers, ssh
from bench.cluster.hostfile import read_hostfile
from bench.cluster.launchers import Group, Launcher
from bench.cluster.leases import Leases
from bench.cluster.process_group import HERE, ProcessGroup
from bench.cluster.slots import Allocation, SlotPool, SlotRequest
from bench.cluster.timeouts import Timeouts
from bench.core.accelerators import gpus_possible
from bench.core.settings import InputError, Problem
from bench.matrix.cell import Cell
from bench.records import store
from bench.records.record import Predicted, Record

PORTS = range(20000, 32000)  # below those that systems give out by themselves


class LaunchError(RuntimeError):
    """Processes could not be started, or no host is left. `str` says why, with the end of a log where there is one."""


@dataclass(frozen=True)
class Event:
    """What the launcher sees happen."""

    kind: str  # progress, done, note
    cell: str = ""
    phase: str = ""
    step: int = 0
    steps: int = 0
    record: Record | None = None
    note: str = ""  # for the user


Watch = Callable[[Event], None]


@dataclass(frozen=True)
class Launch:
    """How and where groups of processes are started."""

    results: Path
    hostfile: Path | None = None
    arguments: tuple[str, ...] = ()  # further ones for what starts the ranks
    launcher: Launcher = field(default_factory=launchers.DeepSpeed)
    timeouts: Timeouts = Timeouts()  # how long everything waits
    exclusive: frozenset[str] = frozenset()  # names of cells that get their hosts alone
    predicted: dict[str, Predicted] = field(default_factory=dict[str, Predicted])  # by cell, for their records
    commits: dict[str, str] = field(default_factory=dict[str, str])  # of data on the hub, as the launcher has read it
    worker: str = field(kw_only=True)  # the module that every rank runs

    def hosts(self, widest: int) -> dict[str, int]:
        """Slots by host. Where nothing names hosts, this machine's: its GPUs, or one group at a time without any.

        InputError when a cell on `widest` ranks needs more, or this machine lacks what the launcher needs for others.
        """
        named = read_hostfile(self.hostfile) if self.hostfile else self.launcher.hosts()
        found = named or {HERE: _gpus() or widest}
        if sum(found.values()) < widest:
            where = str(self.hostfile or ("this machine" if named is None else self.launcher.name))
            message = f"found {sum(found.values())}, expected at least {widest}"
            raise InputError(where, [Problem("slots", message)])
        elsewhere = len(found) > 1 or not ssh.is_here(next(iter(found)), self.timeouts.resolve)
        if elsewhere and (missing := self.launcher.missing()) is not None:
            raise InputError("command line", [Problem(f"--launcher {self.launcher.name}", missing)])
        return found

    def request(self, cell: Cell) -> SlotRequest:
        return SlotRequest(cell.ranks, cell.name in self.exclusive or not self._shared)

    def group(self, place: Allocation, slots: Mapping[str, int], work: Path, taken: set[int]) -> Group:
        """A group on `place`. `taken`: ports of other groups of this run.

        OSError when nobody knows where its first host is.
        """
        first = place.hosts[0]
        here = ssh.is_here(first, self.timeouts.resolve)
        alone = here and len(place.hosts) == 1
        address = "127.0.0.1" if alone else self.launcher.address(first, self.timeouts)
        of_hosts = {host: slots[host] for host in place.hosts}
        return Group(place, of_hosts, work.resolve(), address, _port(here, taken), self.arguments, self.timeouts)

    @functools.cached_property
    def _shared(self) -> bool:
        """Whether groups run side by side on a host."""
        return self.hostfile is not None or self.launcher.name != launchers.DEFAULT or _gpus() > 0


def _port(here: bool, taken: set[int]) -> int:
    """A port that is free here; on another host one that probably is: a group that finds it taken starts again."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        if port in taken:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            if here:
                probe.bind(("", port))
            return port


def _gpus() -> int:
    """Of this machine. torch, which takes seconds to import, is asked only where there may be any."""
    if not gpus_possible():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def pending(cells: Iterable[Cell], results: Path) -> list[Cell]:
    """The cells that have no record yet."""
    done = store.recorded(results)
    return [cell for cell in cells if cell.name not in done]


def run_group(ranks: int, work: Path, launch: Launch, module: str, look: Callable[[], None]) -> ProcessGroup:
    """One group of `ranks` processes of `module`, until it ends. InputError as in `Launch.hosts`.

    `look` is called all the while, and once at the end. When it raises, the group is ended.
    """
    hosts = launch.hosts(ranks)
    place = SlotPool(hosts).allocate(SlotRequest(ranks))
    assert place is not None, "that it fits was checked"
    made = launch.group(place, hosts, work, set())
    with Leases(launch.results, work.parent, launch.timeouts) as leases:
        running = ProcessGroup(made, launch.launcher, module, leases.lease, {})
        try:
            while running.session.poll() is None:
                time.sleep(launch.timeouts.poll)
                look()
        finally:
            running.end()
    look()
    return running


def start_error(running: ProcessGroup) -> LaunchError:
    """What was started, and the end of its log."""
    command = running.launcher.command(running.group)
    lines = [f"the processes could not be started: {shlex.join(command)}", *running.log()]
    return LaunchError("\n".join(lines))


def example(request: SlotRequest, hosts: Mapping[str, int], launch: Launch) -> list[str]:
    """The command of one group, for people."""
    place = SlotPool(hosts).allocate(request)
    assert place is not None, "that all fit was checked"
    shown = Group(place, hosts, Path("QUEUE"), place.hosts[0], PORTS.start, launch.arguments)
    return launch.launcher.command(shown)


def run_folder(results: Path) -> Path:
    """A folder for queues, beats and logs of this run; on disk shared with the hosts, since the results are."""
    (results / ".run").mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    return Path(tempfile.mkdtemp(dir=results / ".run", prefix=f"{stamp}-")).resolve()


def line_of(cell: Cell, launch: Launch, lost: list[Any]) -> dict[str, Any]:
    """A cell as the ranks read it."""
    predicted = launch.predicted.get(cell.name)
    return {
        "cell": cell.content(),
        "predicted": predicted.model_dump() if predicted else None,
        "lost": [one.model_dump() for one in lost],
    }
