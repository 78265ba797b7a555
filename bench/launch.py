"""From pending cells to `deepspeed` commands, and a record for every cell whose process died.

Records are trusted, exit codes are not: killing DeepSpeed's own launcher makes `deepspeed` exit 0. Every group of
processes runs in a session of its own and is ended as a whole, so no rank outlives it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from bench import files, records
from bench.cells import Cell
from bench.hostfile import include
from bench.inference import inferred_out_of_memory
from bench.processes import processes
from bench.records import Failure, Predicted, Record

POLL_SECONDS = 0.2
STARTS = 2  # how often a group may die before its first cell


class LaunchError(RuntimeError):
    """A group of processes could not be started. `str` has the end of its log."""


@dataclass(frozen=True)
class Event:
    """What the launcher sees happen."""

    kind: str  # start, progress, done
    cell: str
    phase: str = ""
    step: int = 0
    steps: int = 0
    record: Record | None = None


Watch = Callable[[Event], None]


@dataclass
class Launch:
    """How and where groups of processes are started."""

    results: Path
    hostfile: Path | None = None
    arguments: list[str] = field(default_factory=list)  # further ones for the deepspeed launcher
    started: str = field(default_factory=records.now)
    predicted: dict[str, Predicted] = field(default_factory=dict[str, Predicted])  # by cell, for their records
    commits: dict[str, str] = field(default_factory=dict[str, str])  # of data on the hub, as the launcher has read it


def pending(cells: Iterable[Cell], results: Path) -> list[Cell]:
    """The cells that have no record yet."""
    done = records.recorded(results)
    return [cell for cell in cells if cell.name not in done]


def groups(cells: Iterable[Cell]) -> list[list[Cell]]:
    """What one process group can serve: the cells of one world size, those that share data and weights together."""
    by_ranks: dict[int, list[Cell]] = {}
    for cell in cells:
        by_ranks.setdefault(cell.ranks, []).append(cell)
    return [sorted(group, key=_together) for _, group in sorted(by_ranks.items())]


def _together(cell: Cell) -> tuple[str, str, str, str, int]:
    """Small micro-batches first: where one runs out of memory, larger ones need not run."""
    return (cell.backbone.label, cell.task.label, cell.head.label, cell.regime.label, cell.micro)


def run(cells: list[Cell], launch: Launch, watch: Watch) -> None:
    """Runs every cell; afterwards each has a record. LaunchError when processes cannot be started at all."""
    made = groups(cells)
    for group in made:  # a hostfile with too few slots is known before anything starts
        command(group[0].ranks, launch.results, launch)
    with run_folder(launch.results) as folder:
        for group in made:
            _serve(group, launch, folder, watch)


def _serve(group: list[Cell], launch: Launch, folder: Path, watch: Watch) -> None:
    """One process group after another until every cell of `group` has a record."""
    failed_starts = 0
    while left := _not_inferred(pending(group, launch.results), launch, watch):
        work = Path(tempfile.mkdtemp(dir=folder, prefix="group-"))
        predicted = {
            cell.name: launch.predicted[cell.name].model_dump() for cell in left if cell.name in launch.predicted
        }
        queue = {
            "results": str(launch.results.resolve()),
            "cells": [cell.content() for cell in left],
            "predicted": predicted,
            "commits": launch.commits,
        }
        files.write(work / "queue.json", json.dumps(queue))
        reader = _Reader(work / "events.jsonl", launch.results, watch)
        code = run_group(left[0].ranks, work, launch, "bench.worker", reader.read)
        unfinished = reader.unfinished()
        if unfinished is not None:
            cell = next(cell for cell in left if cell.name == unfinished.cell)
            record = _died(cell, unfinished, code, work)
            records.write(launch.results, record)
            watch(Event("done", cell.name, record=record))
        elif len(pending(left, launch.results)) < len(left):
            failed_starts = 0
        else:
            failed_starts += 1
            if failed_starts == STARTS:
                raise start_error(left[0].ranks, work, launch, "bench.worker")


def _not_inferred(cells: list[Cell], launch: Launch, watch: Watch) -> list[Cell]:
    """Those of `cells` that may fit: what ran out of memory needs no second try with larger micro-batches."""
    inferred = inferred_out_of_memory(cells, launch.results, launch.started)
    for record in inferred:
        records.write(launch.results, record)
        watch(Event("done", record.name, record=record))
    names = {record.name for record in inferred}
    return [cell for cell in cells if cell.name not in names]


def run_group(ranks: int, work: Path, launch: Launch, module: str, look: Callable[[], None]) -> int | None:
    """One group of processes on the queue in `work`, until it ends; its exit status.

    `look` is called all the while, and once at the end. When it raises, the group is ended.
    """
    with processes(command(ranks, work, launch, module), work / "log", environment(ranks, launch)) as process:
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            look()
    look()
    return process.returncode


def start_error(ranks: int, work: Path, launch: Launch, module: str) -> LaunchError:
    return LaunchError(f"{shlex.join(command(ranks, work, launch, module))}\n" + "\n".join(tail(work)))


def command(ranks: int, work: Path, launch: Launch, module: str = "bench.worker") -> list[str]:
    """The deepspeed launcher for `ranks` processes that serve the queue in `work`."""
    deepspeed = [sys.executable, "-m", "deepspeed.launcher.runner", *launch.arguments]
    if launch.hostfile is None:
        place = ["--num_gpus", str(ranks), "--master_port", str(_free_port())]
    else:
        place = ["--hostfile", str(launch.hostfile), "--include", include(launch.hostfile, ranks)]
    return [*deepspeed, *place, "--module", module, str(work.resolve())]


def environment(ranks: int, launch: Launch) -> dict[str, str]:
    """Ours, with the cores of this machine shared among the ranks where the user has not set threads."""
    made = {**os.environ, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    if launch.hostfile is None:
        made.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks)))
    return made


class _Reader:
    """Reads what the workers tell, and reports it."""

    def __init__(self, file: Path, results: Path, watch: Watch):
        self.file, self.results, self.watch = file, results, watch
        self.position = 0
        self.running: Event | None = None

    def read(self) -> None:
        for line in self._lines():
            told = json.loads(line)
            event = Event("progress", told["cell"], told["phase"], told["step"], told["steps"])
            if self.running is None or self.running.cell != event.cell:
                self._finish()
                self.watch(Event("start", event.cell, event.phase, event.step, event.steps))
            self.running = event
            self.watch(event)
        self._finish()

    def unfinished(self) -> Event | None:
        """The cell that was running when the processes ended, if it has no record."""
        return self.running

    def _finish(self) -> None:
        """Reports the running cell as done as soon as its record is there."""
        if self.running is None:
            return
        file = records.path(self.results, self.running.cell)
        if file.is_file():
            self.watch(Event("done", self.running.cell, record=records.parse(file.read_bytes())))
            self.running = None

    def _lines(self) -> list[str]:
        """The whole lines since the last call."""
        if not self.file.is_file():
            return []
        with self.file.open("rb") as file:
            file.seek(self.position)
            whole, newline, _ = file.read().rpartition(b"\n")
        self.position += len(whole) + len(newline)
        return whole.decode("utf-8").splitlines()


def _died(cell: Cell, last: Event, code: int | None, work: Path) -> Record:
    """The record of a cell whose process ended without one."""
    failure = Failure(
        phase=last.phase,
        rank=None,
        host=None,
        exception=f"a process ended without a record: {how_ended(code, work)}",
        step=last.step,
        log=tuple(tail(work)),
    )
    return cell.without_result("failed", failure)


def how_ended(code: int | None, work: Path) -> str:
    """Of the first process that DeepSpeed's own launcher saw end; `code` where the log has none."""
    ends = re.findall(r"exits with return code = (-?\d+)", "\n".join(tail(work, 200)))
    code = int(ends[-1]) if ends else code
    return f"ended by {signal.Signals(-code).name}" if code and code < 0 else f"exit status {code}"


def tail(work: Path, lines: int = 20) -> list[str]:
    """The end of the log."""
    file = work / "log"
    content = file.read_text("utf-8", errors="replace").splitlines() if file.is_file() else []
    return content[-lines:]


@contextlib.contextmanager
def run_folder(results: Path) -> Generator[Path, None, None]:
    """A folder for queues, events and logs of this run; on disk shared with the hosts, since the results are."""
    (results / ".run").mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    yield Path(tempfile.mkdtemp(dir=results / ".run", prefix=f"{stamp}-"))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
