"""Warm ranks: one group of processes for each number of ranks, which serves what many tests want to have run.

A group is started by `bench.cluster.process_group` as a run starts one, when the first test needs it, and it ends with
the tests. What a test says of a run itself, as how it starts, fails, is stopped and goes on, needs a run of its own
(runs.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from places import HELPERS, ROOT
from runs import QUICK

from bench.cluster.launchers import DeepSpeed, Group
from bench.cluster.leases import Leases
from bench.cluster.process_group import ProcessGroup
from bench.cluster.slots import SlotPool, SlotRequest
from bench.matrix import matrix
from bench.matrix.cell import Cell
from bench.records import store
from bench.records.record import Predicted, Record
from bench.runner import launch
from bench.runner.launch import Launch

STILL_SECONDS = 600.0  # without a sign of progress of any rank: it hangs


@dataclass(frozen=True)
class Here(DeepSpeed):
    """DeepSpeed's launcher on this machine. `folder`: for what ranks keep, as features of examples."""

    folder: Path

    def variables(self, group: Group) -> dict[str, str]:
        path = os.pathsep.join([str(HELPERS), str(ROOT), os.environ.get("PYTHONPATH", "")])
        return {**QUICK, "BENCH_CACHE": str(self.folder / "cache"), "PYTHONPATH": path}


def variables() -> dict[str, str]:
    """Those of this process that change what ranks do, without those that `Here` sets."""
    names = {name for name in os.environ if name.startswith(("BENCH_", "DS_", "HF_"))} - {"BENCH_CACHE"}
    return {name: os.environ[name] for name in sorted(names)}


class Ranks:
    """All warm groups; a context manager that ends them."""

    def __init__(self, folder: Path):
        self.folder, self.how = folder, Launch(folder, launcher=Here(folder), worker="rank_worker")
        self.run = launch.run_folder(folder)
        self.leases = Leases(folder, self.run, self.how.timeouts)
        self.warm: dict[int, ProcessGroup] = {}  # by the number of its ranks
        self.variables = variables()
        self.calls = 0

    def __enter__(self) -> Ranks:
        self.leases.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for size in list(self.warm):
                self._end(size)
        finally:
            self.leases.__exit__(None, None, None)

    def serve(
        self,
        cells: Path | Iterable[Cell],
        results: Path | None = None,
        predicted: Mapping[str, Predicted] | None = None,
    ) -> dict[str, Record]:
        """The record of every cell, or of every cell of a matrix file, by name; failures are records too.

        `results`: the folder to which the records are written. `predicted`: by cell, for its record.
        """
        wanted = matrix.load(str(cells)).expand() if isinstance(cells, Path) else list(cells)
        results = results or Path(tempfile.mkdtemp(dir=self.folder, prefix="results-"))
        self.how = replace(self.how, predicted=dict(predicted or {}))
        made: dict[str, Record] = {}
        for cell in sorted(wanted, key=lambda one: one.ranks):
            line = {**launch.line_of(cell, self.how, []), "results": str(results)}
            file = store.path(results, cell.name)
            self._feed(cell.ranks, line, file.is_file)
            made[cell.name] = store.parse(file.read_bytes())
            if made[cell.name].status != "ok":
                self._end(cell.ranks)  # a worker ends after a failure, as this does
        return made

    def call(self, size: int, function: str, *arguments: Any) -> list[Any]:
        """What `module:name` returns on each of `size` ranks, called as name(world, *arguments); all of it is JSON.

        AssertionError has the traceback of every rank on which it raised.
        """
        self.calls += 1
        answers = [self.run / f"answer-{self.calls}-{rank}" for rank in range(size)]
        line = {"call": function, "arguments": arguments, "answers": list(map(str, answers))}

        def done() -> bool:
            return all(file.is_file() for file in answers)

        ended = None
        try:
            self._feed(size, line, done)
        except AssertionError as error:
            ended = str(error)
        made = [json.loads(file.read_text()) for file in answers if file.is_file()]
        said = [one["error"] for one in made if one["error"]]
        if ended or said:
            self._end(size)  # what raised has ended its process, and the others may wait for it
            raise AssertionError("\n".join([f"{function}{arguments}", *said, *filter(None, [ended])]))
        return [one["result"] for one in made]

    def _feed(self, size: int, line: Mapping[str, Any], done: Callable[[], bool]) -> None:
        """Has a warm group do one line. AssertionError when the group ends, or stands still, before it is done."""
        assert variables() == self.variables, "warm ranks have the variables of when tests began"
        running = self._running(size)
        fed = time.monotonic()
        try:
            running.feed(line)
            while not done():
                running.poll()
                ended = running.over or running.failing
                still = time.monotonic() - max(fed, running.last_progress_at) > STILL_SECONDS
                if (ended or still) and not done():
                    how = "ended" if ended else f"made no progress for {STILL_SECONDS:g} s: {running.beats}"
                    raise AssertionError("\n".join([f"the group of {size} ranks {how}", *running.log(60)]))
                time.sleep(self.how.timeouts.poll / 2)
        except BaseException:  # also of a test that is stopped: its ranks may be in the middle of anything
            self._end(size)
            raise

    def _running(self, size: int) -> ProcessGroup:
        if (known := self.warm.get(size)) is not None:
            known.poll()
            if not (known.over or known.exits):
                return known
            self._end(size)
        hosts = self.how.hosts(size)
        place = SlotPool(hosts).allocate(SlotRequest(size))
        assert place is not None
        work = Path(tempfile.mkdtemp(dir=self.run, prefix=f"group-{size}-"))
        taken = {one.group.port for one in self.warm.values()}
        planned = self.how.group(place, hosts, work, taken)
        self.warm[size] = ProcessGroup(planned, self.how.launcher, self.how.worker, self.leases.lease, {})
        return self.warm[size]

    def _end(self, size: int) -> None:
        with contextlib.suppress(KeyError):
            self.warm.pop(size).end()
