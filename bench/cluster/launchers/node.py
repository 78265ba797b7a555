"""`bench node-agent`: the agent of one host. It starts, watches and ends what groups want there; see agents.py."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.cluster import heartbeat
from bench.cluster.launchers.agents import NAME, beat_file, ended_file, hosts_of, log_file
from bench.cluster.launchers.base import SUPERVISOR, include
from bench.cluster.processes import Session, ignore_stop_signals, stop_on_signals
from bench.cluster.timeouts import Timeouts


def command(results: Path, host: str | None, timeouts: Timeouts) -> int:
    """Serves until SIGINT, SIGTERM or SIGHUP, which is how it is meant to end: 0."""
    stop_on_signals()
    with contextlib.suppress(KeyboardInterrupt), Node(results, host or socket.gethostname(), timeouts) as agent:
        agent.serve()
    return 0


def launch_command(work: Path, group: dict[str, Any], node: int) -> list[str]:
    """deepspeed's launcher for the part of one host."""
    return [
        *(sys.executable, "-m", "deepspeed.launcher.runner", "--no_ssh", "--node_rank", str(node)),
        *("--hostfile", str(work / "hostfile"), "--include", include(hosts_of(group).items())),
        *("--master_addr", group["address"], "--master_port", str(group["port"]), *group["arguments"]),
        *("--module", SUPERVISOR, str(work)),
    ]


Starts = Callable[[Path, dict[str, Any], int], list[str]]


class Part:
    """What this host does of one group."""

    def __init__(self, work: Path, node: int, command: list[str], timeouts: Timeouts):
        self.work, self.node, self.timeouts = work, node, timeouts
        self.session = Session(command, log_file(work, node), dict(os.environ), timeouts)
        self.told: float | None = None  # when it was told to end

    def over(self) -> bool:
        """Whether it has ended; what is left of it then is no more, and the group knows."""
        if self.session.poll() is None:
            if self.told is None and _told_to_stop(self.work):
                self.stop()
            if self.told is None or time.monotonic() - self.told < self.timeouts.end:
                return False
        self.session.end(0)
        with contextlib.suppress(OSError):
            ended_file(self.work, self.node).write_text(json.dumps(self.session.poll()), "utf-8")
        return True

    def stop(self) -> None:
        self.told = time.monotonic()
        self.session.signal(signal.SIGTERM)


class Node:
    """The agent; a context manager that ends all it has started."""

    def __init__(self, results: Path, host: str, timeouts: Timeouts, starts: Starts = launch_command):
        """`timeouts`: of the agent; those of a group it has from the run."""
        self.results, self.host, self.timeouts, self.starts = results, host, timeouts, starts
        self.parts: list[Part] = []
        self.leases: dict[str, int] = {}  # as each run's was when it was seen first
        self.seen: set[Path] = set()  # work folders that are settled: not for this host, or started
        self.beaten = float("-inf")

    def __enter__(self) -> Node:
        file = beat_file(self.results, self.host)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        return self

    def __exit__(self, *_: object) -> None:
        with ignore_stop_signals():
            for part in self.parts:
                part.stop()
            while self._still():
                time.sleep(self.timeouts.agent_look)
            beat_file(self.results, self.host).unlink(missing_ok=True)

    def serve(self) -> None:
        """Until it is interrupted."""
        while True:
            self.look()
            time.sleep(self.timeouts.agent_look)

    def look(self) -> None:
        """Beats, ends what is to end, starts what is new."""
        self._beat()
        self._still()
        for work, group, node in self._wanted():
            if _first(work / f"started-{node}"):
                print(f"{work}: starting ranks", flush=True)
                self.parts.append(Part(work, node, self.starts(work, group, node), Timeouts(**group["timeouts"])))

    def _beat(self) -> None:
        if time.monotonic() - self.beaten >= self.timeouts.agent_beat:
            self.beaten = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(beat_file(self.results, self.host))

    def _still(self) -> list[Part]:
        """The parts that run."""
        self.parts = [part for part in self.parts if not part.over()]
        return self.parts

    def _wanted(self) -> Iterator[tuple[Path, dict[str, Any], int]]:
        """Folder and group.json of each new group that has ranks here, and which of its hosts this is."""
        runs = [lease.parent for lease in self.results.glob(".run/*/lease")]  # one that is over has none
        for file in sorted(file for run in runs for file in run.glob("*/group.json")):
            work = file.parent
            if work in self.seen:
                continue
            try:
                group = json.loads(file.read_bytes())
            except OSError:  # it is over, or another user's
                continue
            hosts = list(hosts_of(group)) if group.get("launcher") == NAME else []
            if self.host not in hosts:
                self.seen.add(work)
            elif self._lasts(group["lease"]):
                self.seen.add(work)
                yield work.resolve(), group, hosts.index(self.host)

    def _lasts(self, lease: str) -> bool:
        """Whether the run is there: its lease has changed since it was seen first."""
        try:
            changed = Path(lease).stat().st_mtime_ns
        except OSError:
            return False
        return self.leases.setdefault(lease, changed) != changed


def _told_to_stop(work: Path) -> bool:
    """Also when the run has taken the group away."""
    return bool(heartbeat.told_to_stop(work)) or not (work / "group.json").exists()


def _first(file: Path) -> bool:
    """Whether nobody has made `file` yet; of two agents with one name, one starts the ranks."""
    try:
        file.open("x").close()
    except OSError:
        return False
    return True
