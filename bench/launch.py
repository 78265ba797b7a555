"""From pending cells to groups of processes that serve them, and a record for every cell whose processes died.

Records are trusted, exit codes are not: killing DeepSpeed's own launcher makes `deepspeed` exit 0. Groups are placed on
slots, widest first, and fed with cells one by one, so that no slot waits while there are cells that it could run. Which
run works on a cell is said by claims in the results folder, which several runs may share.
"""

from __future__ import annotations

import functools
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench import group, launchers, records
from bench.cells import Cell
from bench.clocks import Clocks
from bench.group import HERE, Running
from bench.hostfile import read_hostfile
from bench.launchers import Group, Launcher
from bench.leases import Leases
from bench.records import Predicted, Record
from bench.remote import is_here
from bench.schedule import Lane, Pool
from bench.settings import InputError, Problem


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


@dataclass
class Launch:
    """How and where groups of processes are started."""

    results: Path
    hostfile: Path | None = None
    arguments: tuple[str, ...] = ()  # further ones for what starts the ranks
    launcher: Launcher = field(default_factory=launchers.DeepSpeed)
    clocks: Clocks = Clocks()  # how long everything waits
    exclusive: frozenset[str] = frozenset()  # names of cells that get their hosts alone
    predicted: dict[str, Predicted] = field(default_factory=dict[str, Predicted])  # by cell, for their records
    commits: dict[str, str] = field(default_factory=dict[str, str])  # of data on the hub, as the launcher has read it
    worker: str = "bench.worker"  # the module that every rank runs

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
        elsewhere = len(found) > 1 or not is_here(next(iter(found)), self.clocks.resolve)
        if elsewhere and (missing := self.launcher.missing()) is not None:
            raise InputError("command line", [Problem(f"--launcher {self.launcher.name}", missing)])
        return found

    def lane(self, cell: Cell) -> Lane:
        return Lane(cell.ranks, cell.name in self.exclusive or not self._shared)

    @functools.cached_property
    def _shared(self) -> bool:
        """Whether groups run side by side on a host."""
        return self.hostfile is not None or self.launcher.name != launchers.DEFAULT or _gpus() > 0


def _gpus() -> int:
    import torch

    wanted = os.environ.get("DS_ACCELERATOR", "cuda") == "cuda"
    return torch.cuda.device_count() if wanted and torch.cuda.is_available() else 0


def pending(cells: Iterable[Cell], results: Path) -> list[Cell]:
    """The cells that have no record yet."""
    done = records.recorded(results)
    return [cell for cell in cells if cell.name not in done]


def run(cells: list[Cell], launch: Launch, watch: Watch) -> None:
    """Runs every cell; afterwards each has a record, made here or by another run on the same results.

    LaunchError when processes cannot be started at all, or no host is left.
    """
    from bench.running import Run

    hosts = launch.hosts(max((cell.ranks for cell in cells), default=1))
    folder = run_folder(launch.results)
    with (
        Leases(launch.results, folder, launch.clocks) as leases,
        Run(launch, Pool(hosts), folder, leases, watch) as made,
    ):
        made.serve(cells)


def run_group(ranks: int, work: Path, launch: Launch, module: str, look: Callable[[], None]) -> Running:
    """One group of `ranks` processes of `module`, until it ends. InputError as in `Launch.hosts`.

    `look` is called all the while, and once at the end. When it raises, the group is ended.
    """
    hosts = launch.hosts(ranks)
    place = Pool(hosts).place(Lane(ranks))
    assert place is not None, "that it fits was checked"
    made = group.planned(place, hosts, work, launch, set())
    with Leases(launch.results, work.parent, launch.clocks) as leases:
        running = Running(made, launch.launcher, module, leases.lease, {})
        try:
            while running.session.poll() is None:
                time.sleep(launch.clocks.poll)
                look()
        finally:
            running.end()
    look()
    return running


def start_error(running: Running) -> LaunchError:
    """What was started, and the end of its log."""
    command = running.launcher.command(running.group)
    lines = [f"the processes could not be started: {shlex.join(command)}", *running.log()]
    return LaunchError("\n".join(lines))


def example(lane: Lane, hosts: Mapping[str, int], launch: Launch) -> list[str]:
    """The command of one group, for people."""
    place = Pool(hosts).place(lane)
    assert place is not None, "that all fit was checked"
    shown = Group(place, hosts, Path("QUEUE"), place.hosts[0], group.PORTS.start, launch.arguments)
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
