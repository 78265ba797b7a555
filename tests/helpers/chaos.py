"""`bench run` again and again on one results folder, while processes of it are killed at random moments.

Which process is next and at what moment is drawn from a seed; what it is doing at that moment is chance all the same.
Ranks are light_worker.py, which starts in a moment; everything between them and `bench run` is as it is.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.cluster import heartbeat
from bench.records import store

# what is killed, and its share while all were killed as often; "stop": a rank is stopped, which somebody has to notice
SHARES = {"run": 1, "guard": 4, "rank": 5, "runner": 3, "launch": 3, "stop": 1}
MODULES = {  # that a process runs -> what it is
    "light_run": "run",
    "bench.cluster.rank_supervisor": "guard",
    "light_worker": "rank",
    "deepspeed.launcher.runner": "runner",
    "deepspeed.launcher.launch": "launch",
}
TIMEOUT_SECONDS = 8  # of cells, in these runs
CLOCKS = '{"silence": 4, "ask_again": 0.5, "end": 3, "beat": 0.5, "touch": 0.5, "orphan": 6, "lease": 12, "echo": 2}'
PATIENCE_SECONDS = 30  # for something to happen; then it is the next one's turn anyway
LEFT_BEHIND = ("failed", "timeout", "node_lost")  # statuses of cells whose processes were killed
RETRY = [word for status in LEFT_BEHIND for word in ("--retry", status)]


def processes(results: Path) -> dict[str, list[psutil.Process]]:
    """Those that serve cells into `results`, by what they are."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        module = line[line.index("-m") + 1] if "-m" in line[:-1] else ""
        if module in MODULES and any(str(results) in word for word in line):
            found.setdefault(MODULES[module], []).append(process)
    return found


@dataclass
class Chaos:
    """Of one results folder. `variables`: of its runs, from light_run.py. `log`: where runs say what they do."""

    matrix: Path
    hostfile: Path
    results: Path
    log: Path
    variables: dict[str, str]
    chance: random.Random
    runs: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    fine: dict[str, bytes] = field(default_factory=dict)  # records that say ok, as they were first seen

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables, "BENCH_TIMEOUTS": CLOCKS}

    def command(self, *options: str) -> list[str]:
        words = ["run", str(self.matrix), "--results", str(self.results), "--hostfile", str(self.hostfile)]
        return [sys.executable, "-m", "light_run", *words, "--timeout", str(TIMEOUT_SECONDS), *options]

    def undisturbed(self, *options: str) -> subprocess.CompletedProcess[str]:
        """One run, to its end."""
        told: Any = {"capture_output": True, "text": True, "check": False}
        return subprocess.run(self.command(*options), env=self.environment, **told)

    def wreck(self, kills: int, cells: int) -> None:
        """Until so many processes were killed, of every kind some. No run is left then. `cells`: of the matrix."""
        while self.kills.total() < kills or set(self.kills) < set(SHARES):
            assert len(self.fine) < cells, f"nothing is left to run after {self.kills}: take more cells"
            self._start()
            self._wait()
            for _ in range(self.chance.choice((2, 4, 5, 8))):  # shorter than what would be noticed in between
                if self._kill() == "stop":
                    self._wait_for(self._more_written(1))  # it shall be noticed
                    break
                time.sleep(self.chance.uniform(0, 0.2))
            self._keep()
        for run in self.runs:
            run.kill()
            run.wait()
            self.kills["run"] += 1

    def _start(self) -> None:
        """One run or two at once; some try again what was killed before."""
        self.runs = [run for run in self.runs if run.poll() is None]
        while len(self.runs) < self.chance.choice((1, 1, 2)):
            retry = RETRY if self.chance.random() < 0.5 else []
            with self.log.open("ab") as log:
                self.runs.append(subprocess.Popen(self.command(*retry), env=self.environment, stdout=log, stderr=log))
            self.started += 1

    def _wait(self) -> None:
        """For a moment to kill at: any, or while a rank trains, or when cells have just ended; and somewhat later."""
        more = self._more_written(self.chance.choice((1, 2, 3)))
        self._wait_for(self.chance.choice((lambda: True, self._in_training, self._in_training, more)))
        time.sleep(self.chance.uniform(0, 2))

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition() and time.monotonic() < end and any(run.poll() is None for run in self.runs):
            time.sleep(0.05)

    def _more_written(self, count: int) -> Callable[[], bool]:
        before = self._written()
        return lambda: len(self._written() - before) >= count

    def _written(self) -> set[tuple[str, int]]:
        """Records, each with its inode, since one may be written again after `--retry`."""
        folder = store.folder(self.results)
        return {(file.name, file.inode()) for file in os.scandir(folder)} if folder.is_dir() else set()

    def _in_training(self) -> bool:
        told = [beat for file in self.results.glob(".run/*/*/beat-0.json") for beat in heartbeat.read(file.parent, 1)]
        done = store.recorded(self.results)
        return any(beat.phase == "train" and beat.cell not in done for beat in told)

    def _kill(self) -> str:
        """One of what is there now; what was done."""
        there = processes(self.results)
        kinds = [kind for kind in SHARES if there.get("rank" if kind == "stop" else kind)]
        if not kinds:
            return ""
        (kind,) = self.chance.choices(kinds, [SHARES[kind] / (1 + self.kills[kind]) for kind in kinds])
        victim = self.chance.choice(there["rank" if kind == "stop" else kind])
        try:
            victim.send_signal(signal.SIGSTOP if kind == "stop" else signal.SIGKILL)
        except psutil.NoSuchProcess:
            return ""  # it ended by itself
        self.kills[kind] += 1
        return kind

    def _keep(self) -> None:
        """What says ok is never done again."""
        for record in store.read_all(self.results).records:
            if record.status == "ok":
                content = store.path(self.results, record.name).read_bytes()
                assert self.fine.setdefault(record.name, content) == content, f"{record.name} was written twice"


def statuses(results: Path) -> Counter[str]:
    return Counter(record.status for record in store.read_all(results).records)
