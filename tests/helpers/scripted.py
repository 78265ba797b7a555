"""Groups of processes that are a script, which starts in a moment: what a run makes of what its ranks tell."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from runs import wait_for

from bench.cluster.launchers import DeepSpeed, Group, Launcher
from bench.cluster.process_group import ProcessGroup
from bench.cluster.run_identity import RunIdentity
from bench.cluster.timeouts import Timeouts
from bench.matrix.cell import Cell
from bench.records import store
from bench.records.record import Failure

QUICK = Timeouts().scaled(0.1)
RANK = """
import json, os, sys, time
from pathlib import Path
from bench.cluster import heartbeat
from bench.cluster.heartbeat import Beat, Exit

work, folder = Path(sys.argv[1]), Path(sys.argv[2])
ranks = json.loads((work / "group.json").read_text())["ranks"]
host = ranks[0][0]
endings = folder / (host if (folder / host).exists() else "endings")
ending, _, left = endings.read_text().partition(" ")
endings.write_text(left or ending)
if ending == "parted":
    for rank, (each, _) in enumerate(ranks):
        heartbeat.write(work, Beat(rank, each))
    sys.exit(1)
if ending == "mute":
    sys.exit(1)
while ending == "held" and not (folder / "go").exists():
    time.sleep(0.01)
cells, done = json.loads((folder / "cells.json").read_text()), 0
while '{"end": true}' not in (lines := (work / "queue.jsonl").read_text().splitlines()):
    time.sleep(0.01)
    for line in map(json.loads, lines[done:]):
        cell = cells[json.dumps(line["cell"], sort_keys=True)]
        beat = Beat(0, host, cell["name"], "train", progress_count=1)
        heartbeat.write(work, beat)
        if ending == "vanishes":
            sys.exit(1)
        if ending == "hangs":
            heartbeat.write(work, beat._replace(state="stopped"))
            time.sleep(1000)
        if ending not in ("ends", "slowly", "held"):
            heartbeat.write_exit(work, Exit(0, host, -9, ending.replace("_", " ")))
            heartbeat.write(work, beat._replace(state=heartbeat.ENDED))
            sys.exit(1)
        if ending == "slowly":
            time.sleep(0.5)
        (work / "record").write_text(cell["record"])
        Path(cell["file"]).parent.mkdir(exist_ok=True)
        os.link(work / "record", cell["file"])
        (work / "record").unlink()
        done += 1
"""


@dataclass(frozen=True)
class Scripted(DeepSpeed):
    """What starts such groups.

    `folder` holds how they end, one word for each group in the order of their starts, the last of all others: in a file
    with the name of a group's first host, else in `endings`. `parted`: all ranks start and end before their first cell;
    `mute`: they end without a word; `vanishes`: in a cell; `hangs`: it is stopped in a cell; `ends`: with its cells'
    records, `slowly` half a second after each other, `held` as soon as there is a file `go`; any other word is an order
    of a guard, on which rank 0 ends in a cell.
    """

    folder: Path
    gone: frozenset[str] = frozenset()  # hosts that do not answer

    def missing(self) -> str | None:
        return None

    def command(self, group: Group) -> list[str]:
        return [sys.executable, "-c", RANK, str(group.work), str(self.folder)]

    def reachable(self, host: str, timeouts: Timeouts) -> bool:
        return host not in self.gone

    def know(self, cells: Sequence[Cell], results: Path) -> None:
        """What ranks write for each cell: a record that says `unsupported`."""
        failure = Failure(phase="train", rank=0, host="localhost", exception="as it ends here")
        known = {
            json.dumps(cell.content(), sort_keys=True): {
                "name": cell.name,
                "file": str(store.path(results, cell.name)),
                "record": cell.without_result("unsupported", failure).model_dump_json(),
            }
            for cell in cells
        }
        (self.folder / "cells.json").write_text(json.dumps(known))

    def ends(self, words: str, host: str = "endings") -> None:
        (self.folder / host).write_text(words)


SAYS = """
import json, os, sys, time
from pathlib import Path
file = Path(sys.argv[1]) / f"said-{os.environ['RANK']}"
file.with_suffix(".part").write_text(json.dumps({**os.environ, "PID": str(os.getpid())}))
file.with_suffix(".part").rename(file)
if os.environ["RANK"] == os.environ.get("BENCH_FAILS"):
    sys.exit(7)
time.sleep(1000)
"""


@contextlib.contextmanager
def saying(launcher: Launcher, group: Group, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessGroup]:
    """A group as a launcher starts it, with guards as they are; its ranks write down their variables and sleep."""
    (group.work / "says.py").write_text(SAYS)
    monkeypatch.setenv("PYTHONPATH", f"{group.work}:{os.environ.get('PYTHONPATH', '')}")
    lease = group.work / "lease"
    lease.write_text(json.dumps(asdict(RunIdentity.here("run"))))
    running = ProcessGroup(group, launcher, "says", lease, {})
    try:
        yield running
    finally:
        running.end()


def said(running: ProcessGroup) -> list[dict[str, str]]:
    """The variables of every rank, as soon as all have started; its process id is among them."""
    files = [running.work / f"said-{rank}" for rank in range(running.group.allocation.ranks)]
    wait_for(lambda: all(file.exists() for file in files) or running.session.poll() is not None)
    assert all(file.exists() for file in files), running.log()
    return [json.loads(file.read_text()) for file in files]
