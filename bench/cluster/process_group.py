"""One group of processes: started on its slots, fed with cells, watched, and ended as a whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.cluster import heartbeat
from bench.cluster.heartbeat import Beat, Exit
from bench.cluster.launchers import Group, Launcher, forwarded
from bench.cluster.processes import Session
from bench.core import files

READ_SECONDS = 0.004  # that reading what one rank tells may take on a slow disk
HERE = "localhost"  # the host of a run without a hostfile


class ProcessGroup:
    """A group from its start to its end."""

    def __init__(self, group: Group, launcher: Launcher, module: str, lease: Path, head: Mapping[str, Any]):
        """`lease`: of the run, whose end is theirs; `head`: what the module finds in group.json, too."""
        self.group, self.launcher, self.work, self.timeouts = group, launcher, group.work, group.timeouts
        self.beats: list[Beat] = []
        self.exits: list[Exit] = []
        self.last_progress_at = self.first_exit_at = (
            time.monotonic()
        )  # when a rank made progress, and when the first of them ended
        self.last_poll_at, self.last_seen_at = (
            float("-inf"),
            time.monotonic(),
        )  # when a look began and when the last one was over
        described = {
            "module": module,
            "launcher": launcher.name,
            "ranks": group.allocation.ranked,
            "alone": group.allocation.exclusive,
            "slots": dict(group.slots),
            "address": group.address,
            "port": group.port,
            "arguments": group.arguments,
            "lease": str(lease),
            "timeouts": asdict(group.timeouts),
            "devices": os.environ.get("CUDA_VISIBLE_DEVICES") if group.allocation.hosts == (HERE,) else None,
            "variables": forwarded(os.environ),  # secrets among them: the file is the user's alone
            **head,
        }
        files.write(self.work / "hostfile", group.hostfile)
        files.write(self.work / "stop", "")
        files.write(self.work / "queue.jsonl", "")
        files.write(self.work / "group.json", json.dumps(described), mode=0o600)
        own = {name: one for name, one in os.environ.items() if not name.startswith(launcher.hides)}
        variables = own | launcher.variables(group)
        self.session = Session(launcher.command(group), self.work / "log", variables, group.timeouts)

    def feed(self, line: Mapping[str, Any]) -> None:
        """One more line of the queue, which every rank reads: all of it, or none where there is no room."""
        content = json.dumps(line).encode() + b"\n"
        with (self.work / "queue.jsonl").open("ab", buffering=0) as queue:
            length = queue.seek(0, os.SEEK_END)
            if queue.write(content) < len(content):
                queue.truncate(length)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def poll(self) -> None:
        """Takes in what the ranks have told; of many, less often."""
        ranks = self.group.allocation.ranks
        if time.monotonic() < self.last_poll_at + ranks * READ_SECONDS:
            return
        self.last_poll_at = time.monotonic()
        beats = heartbeat.read(self.work, ranks)
        before, self.last_seen_at = self.last_seen_at, time.monotonic()
        if [beat.progress_count for beat in beats] != [beat.progress_count for beat in self.beats]:
            self.last_progress_at = self.last_seen_at
        else:
            self.last_progress_at += max(0.0, self.last_seen_at - before - self.timeouts.still)
        self.beats = beats
        if len(exits := heartbeat.read_exits(self.work, beats)) > len(self.exits):
            self.first_exit_at = self.first_exit_at if self.exits else time.monotonic()
            self.exits = exits

    @property
    def failing(self) -> bool:
        """Whether a rank has ended in another way than all will in the end."""
        return any(one.code != 0 for one in self.exits)

    @property
    def over(self) -> bool:
        """Whether nothing more is to be expected of it: it ended, or ranks failed and the others had time to tell."""
        waited = time.monotonic() - self.first_exit_at > self.timeouts.end
        return self.session.poll() is not None or (self.failing and waited)

    def stop(self, why: str) -> None:
        """Tells all ranks to end."""
        heartbeat.stop(self.work, why)
        if self.launcher.ends_by_signal(self.group):
            self.session.signal(signal.SIGTERM)

    def end(self, lost: Sequence[str] = ()) -> None:
        """Until it has ended, on all hosts but those that are `lost`. Its variables go: secrets may be among them."""
        self.stop("the run is done with it")
        self.session.end(0 if set(self.group.allocation.hosts) <= set(lost) else self.timeouts.end)
        end = time.monotonic() + self.timeouts.end
        while True:
            self.last_poll_at = float("-inf")
            self.poll()
            left = [beat for beat in self.beats if beat.state != heartbeat.ENDED and beat.host not in lost]
            if not left or self.launcher.ends_by_signal(self.group) or time.monotonic() > end:
                break
            time.sleep(self.timeouts.poll)  # their slots are not free before
        with contextlib.suppress(OSError):
            (self.work / "group.json").unlink()

    def log(self, lines: int = 20) -> list[str]:
        """Its end."""
        file = self.work / "log"
        content = file.read_text("utf-8", errors="replace").splitlines() if file.is_file() else []
        return content[-lines:]
