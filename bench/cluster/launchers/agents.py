"""Ranks started without ssh: on every host `bench node-agent` runs, an agent that starts what the group wants there.

They meet in the results folder alone. An agent finds the group's group.json, starts its part by deepspeed's launcher
with `--no_ssh`, and tells how that ended. Here only a process lasts as long:
`python -m bench.cluster.launchers.agents WORK`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.cluster import heartbeat, ssh
from bench.cluster.launchers.base import Group
from bench.cluster.timeouts import Timeouts
from bench.core.settings import InputError, Problem

NAME = "agents"


@dataclass(frozen=True)
class Agents:
    results: Path = Path("results")
    name: str = NAME
    hides: tuple[str, ...] = ()

    def missing(self) -> str | None:
        return None

    def hosts(self) -> dict[str, int] | None:
        raise InputError("command line", [Problem(f"--launcher {NAME}", "expected --hostfile with it")])

    def command(self, group: Group) -> list[str]:
        """The user's arguments are those of deepspeed's launcher on every host; they are in group.json."""
        return [sys.executable, "-u", "-m", __name__, str(group.work)]

    def variables(self, group: Group) -> dict[str, str]:
        return {}

    def address(self, host: str, timeouts: Timeouts) -> str:
        return ssh.address_of(host, timeouts)

    def reachable(self, host: str, timeouts: Timeouts) -> bool:
        """Whether its agent beats."""
        beat = beat_file(self.results, host)
        before = _changed(beat)
        end = time.monotonic() + timeouts.agent_gone
        while before is not None and time.monotonic() < end:
            time.sleep(timeouts.agent_look)
            if _changed(beat) not in (before, None):
                return True
        return False

    def ends_by_signal(self, group: Group) -> bool:
        """It would end the waiting only: agents read the file `stop`."""
        return False


def beat_file(results: Path, host: str) -> Path:
    """What the agent of a host touches all the while."""
    return results / ".run" / "agents" / f"{quote(host, safe='')}.beat"


def ended_file(work: Path, node: int) -> Path:
    """The exit status of a group's part on its `node`-th host, told by the agent there."""
    return work / f"ended-{node}.json"


def hosts_of(group: dict[str, Any]) -> dict[str, list[int]]:
    """The hosts of a group.json in the order of ranks, and the slots that it has there."""
    found: dict[str, list[int]] = {}
    for host, slot in group["ranks"]:
        found.setdefault(host, []).append(slot)
    return found


def _changed(file: Path) -> int | None:
    """When it was touched last; opened, since NFS asks its server only then."""
    try:
        with file.open("rb") as opened:
            return os.fstat(opened.fileno()).st_mtime_ns
    except OSError:
        return None


def main() -> None:
    """Until every part of the group has ended, it is told to stop, or `bench run` is gone; the highest exit status."""
    work, parent = Path(sys.argv[1]), os.getppid()
    group = json.loads((work / "group.json").read_text("utf-8"))
    hosts, timeouts = list(hosts_of(group)), Timeouts(**group["timeouts"])
    told: float | None = None
    codes: dict[int, int] = {}
    while len(codes) < len(hosts) and os.getppid() == parent:
        for node, host in enumerate(hosts):
            code = _code(ended_file(work, node)) if node not in codes else None
            if code is not None:
                codes[node] = code
                print(f"{host}: exit status {code}", *_tail(log_file(work, node)), sep="\n")
        if told is None and heartbeat.told_to_stop(work):
            told = time.monotonic()
        if told is not None and time.monotonic() - told > timeouts.agent_stop:
            break
        time.sleep(timeouts.agent_look)
    sys.exit(max(codes.values(), default=1))


def log_file(work: Path, node: int) -> Path:
    return work / f"log-{node}"


def _code(file: Path) -> int | None:
    try:
        return abs(int(json.loads(file.read_bytes())))
    except (OSError, ValueError):  # not there yet, or just being written
        return None


def _tail(log: Path, lines: int = 20) -> list[str]:
    try:
        return log.read_text("utf-8", errors="replace").splitlines()[-lines:]
    except OSError:
        return []


if __name__ == "__main__":
    main()
