"""A rank that computes nothing: `python -m light_worker WORK` serves cells as `bench.training.worker` does, by waiting.

Tests of what happens to processes start it through light_run.py, since it needs no torch. Ranks wait for each other now
and then, as in a collective, but by files. The record of a cell is the one that `known` wrote for it, with what the run
says of where it ran.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sample_records import record

from bench.cluster.heartbeat import pulse
from bench.records import store

if TYPE_CHECKING:
    from bench.matrix.cell import Cell

KNOWN = "BENCH_KNOWN"  # the variable with the file that `known` wrote
STEP_SECONDS = 0.005
TOGETHER = 50  # steps after which ranks wait for each other


def known(cells: Iterable[Cell], file: Path) -> None:
    """Writes the record that ranks are to leave for each cell: it says ok, with a score that its name gives."""
    made = {}
    for cell in cells:
        done = record(cell.name, test=score(cell.name))
        done = done.model_copy(update={"cell": cell.content(), "labels": cell.labels()})
        made[key(cell.content())] = done.model_dump(mode="json")
    file.write_text(json.dumps(made))


def score(name: str) -> float:
    return zlib.crc32(name.encode()) % 1000 / 1000


def key(cell: Any) -> str:
    return json.dumps(cell, sort_keys=True)


def main() -> None:
    work = Path(next(argument for argument in sys.argv[1:] if not argument.startswith("--")))
    group, rank = json.loads((work / "group.json").read_text()), int(os.environ["RANK"])
    made = json.loads(Path(os.environ[KNOWN]).read_text())
    hosts = list(dict.fromkeys(host for host, _ in group["ranks"]))
    where = {"commit": None, "dirty": None, "versions": {}, "hosts": hosts, "accelerator": "cpu", "threads": 1}
    where |= {"launcher": group["launcher"], "alone": group["alone"]}
    ranks = len(group["ranks"])
    for number, line in enumerate(queue(work / "queue.jsonl")):
        begun = store.now()
        done, steps = made[key(line["cell"])], int(line["cell"]["steps"])
        pulse.report(cell=done["name"], phase="load", step=0, steps=0)
        meet(work, rank, ranks, (number, 0))
        for step in range(1, steps + 1):
            time.sleep(STEP_SECONDS)
            pulse.report(phase="train", step=step, steps=steps)
            if step % TOGETHER == 0 or step == steps:
                meet(work, rank, ranks, (number, step))
        if rank == 0:
            now = {"environment": where, "lost": line["lost"], "started": begun, "finished": store.now()}
            store.write(Path(group["results"]), store.parse(json.dumps(done | now)))


def queue(file: Path) -> Iterator[dict[str, Any]]:
    done = 0
    while True:
        for line in file.read_text().splitlines(keepends=True)[done:]:
            if not line.endswith("\n"):
                break
            done += 1
            if "end" in (given := json.loads(line)):
                return
            yield given
        time.sleep(0.05)


def meet(work: Path, rank: int, ranks: int, place: tuple[int, int]) -> None:
    """Until all ranks have come to this place, which is the number of a cell and a step, or beyond."""
    (work / f"at-{rank}").write_text(json.dumps(place))
    while not all(at(work / f"at-{one}") >= list(place) for one in range(ranks)):
        time.sleep(0.01)


def at(file: Path) -> list[int]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):  # not there yet, or just being written
        return []


if __name__ == "__main__":
    main()
