"""Probes through the deepspeed launcher: one process group after another until each has a verdict."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.checks.preflight.probes import Probe
from bench.checks.preflight.verdicts import Verdict
from bench.cluster import failure_diagnosis
from bench.cluster.timeouts import Timeouts
from bench.core import files
from bench.records.record import Environment
from bench.runner import launch
from bench.runner.launch import Launch, LaunchError

WORKER = f"{__package__}.worker"
STARTS = 2  # how often one may die before its first verdict
Found = Callable[[Probe, Verdict], None]


class TookTooLong(Exception):
    """A probe gave no verdict in time."""


def run(probes: list[Probe], where: Launch, tell: Found) -> tuple[dict[str, Verdict], Environment | None]:
    """The verdict on every probe, by name. LaunchError when processes cannot be started at all."""
    by_ranks: dict[int, list[Probe]] = {}
    for probe in probes:
        by_ranks.setdefault(probe.cell.ranks, []).append(probe)
    where.hosts(max(by_ranks))  # a hostfile with too few slots is known before anything starts
    verdicts: dict[str, Verdict] = {}
    environment: Environment | None = None
    folder = launch.run_folder(where.results)
    for _, group in sorted(by_ranks.items()):
        environment = _serve(group, where, folder, verdicts, tell) or environment
    return verdicts, environment


def _serve(
    group: list[Probe], where: Launch, folder: Path, verdicts: dict[str, Verdict], tell: Found
) -> Environment | None:
    failed_starts, environment, limit = 0, None, where.timeouts.probe
    while left := [probe for probe in group if probe.name not in verdicts]:
        work = Path(tempfile.mkdtemp(dir=folder, prefix="preflight-"))
        files.write(work / "queue.json", json.dumps({"probes": [probe.cell.content() for probe in left]}))
        follower = _Follower(work, left, tell, where.timeouts)
        try:
            ended = launch.run_group(left[0].cell.ranks, work, where, WORKER, follower.look)
            how = f"a process ended without a verdict: {failure_diagnosis.how_it_ended(ended)}"
        except TookTooLong:
            ended = None
            how = f"timeout: no verdict in {limit:g} s"
            follower.blame()
        if follower.running is not None:
            follower.found(follower.running, Verdict(finding="unsupported", phase="run", exception=how))
        verdicts |= follower.verdicts
        environment = follower.environment or environment
        failed_starts = 0 if follower.verdicts else failed_starts + 1
        if failed_starts == STARTS:
            raise launch.start_error(ended) if ended else LaunchError(f"{work / 'log'}: no verdict in {limit:g} s")
    return environment


class _Follower:
    """Sees which probe runs and what was found, in the files that ranks write."""

    def __init__(self, work: Path, probes: list[Probe], tell: Found, timeouts: Timeouts):
        self.work, self.tell, self.timeouts = work, tell, timeouts
        self.waiting = list(probes)  # in the order of the queue
        self.verdicts: dict[str, Verdict] = {}
        self.running: Probe | None = None
        self.environment: Environment | None = None  # of the ranks, from when they have joined
        self.last_progress_at = time.monotonic()  # when something was seen last

    def look(self) -> None:
        if self.environment is None and (file := self.work / "environment.json").is_file():
            self.environment = Environment.model_validate_json(file.read_bytes())
            self.last_progress_at = time.monotonic()
        while self.waiting and (file := self.work / "verdicts" / f"{self.waiting[0].name}.json").is_file():
            self.found(self.waiting[0], Verdict.model_validate_json(file.read_bytes()))
        if self.running is None and self.waiting and (self.work / "started" / self.waiting[0].name).is_file():
            self.running, self.last_progress_at = self.waiting[0], time.monotonic()
        limit = self.timeouts.join if self.environment is None else self.timeouts.probe
        if self.waiting and time.monotonic() - self.last_progress_at > limit:
            raise TookTooLong

    def blame(self) -> None:
        """A group that hangs between two probes hangs at the next one."""
        if self.running is None and self.environment is not None:
            self.running = self.waiting[0]

    def found(self, probe: Probe, verdict: Verdict) -> None:
        self.waiting.remove(probe)
        self.running, self.last_progress_at = None, time.monotonic()
        self.verdicts[probe.name] = verdict
        self.tell(probe, verdict)
