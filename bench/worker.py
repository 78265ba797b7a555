"""A process group that serves many cells: `deepspeed --module bench.worker FOLDER`.

FOLDER holds queue.json, the cells to run in their order; rank 0 tells how far it is in events.jsonl there. A record
is written before anything is torn down. After a failure, or when memory does not come back, the group ends and the
launcher starts another one for what is left.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import psutil
import torch

from bench import records, sources
from bench.cells import Cell, rebuild
from bench.engine import World
from bench.profiler import PhaseClock
from bench.records import Failure, Predicted, Record, Status
from bench.settings import Unsupported
from bench.train import Diverged, Progress, run_cell

MAX_CELLS = 200  # of one group: every engine leaves a little behind
MAX_LEAK_BYTES = 2 * 2**30  # growth of a rank's resident memory since its first cell
FAILED = 3  # exit status after a failure
ECHO_SECONDS = 10  # DeepSpeed's launcher looks at its processes once a second


def main() -> None:
    folder = Path(next(argument for argument in sys.argv[1:] if not argument.startswith("--")))
    queue = json.loads((folder / "queue.json").read_text("utf-8"))
    results = Path(queue["results"])
    sources.use(queue["commits"])
    world = World.join()
    base: int | None = None
    for number, content in enumerate(queue["cells"], 1):
        cell = rebuild(content)
        serve(cell, world, results, folder, queue["predicted"].get(cell.name))
        gc.collect()
        if number == 1:
            gc.freeze()  # what the libraries are made of, which every collection and every ledger would look through
        if world.device.type == "cuda":
            torch.cuda.empty_cache()  # what the allocator keeps of this cell is no memory of the next
        resident = psutil.Process().memory_info().rss
        base = base or resident
        if world.any(number >= MAX_CELLS or resident - base > MAX_LEAK_BYTES):
            break
    world.leave()


def serve(cell: Cell, world: World, results: Path, folder: Path, predicted: dict[str, Any] | None = None) -> None:
    """Runs one cell and writes its record. A failure ends the process, after its record is written.

    `predicted`: what a dry run gave, for the record.
    """
    dry = Predicted.model_validate(predicted) if predicted else None
    events = Events(folder / "events.jsonl" if world.rank == 0 else None, cell.name)
    clock, started = PhaseClock(), records.now()
    try:
        record = run_cell(cell, world, clock, events.progress)
    except Exception as error:  # whatever it was, it is this cell's result
        traceback.print_exc()
        if is_echo(error):
            time.sleep(ECHO_SECONDS)
            os._exit(FAILED)
        failure = describe(error, clock.current, world)
        end(results, cell.without_result(status_of(error), failure, started, dry))
    if record is not None:
        records.write(results, record.model_copy(update={"predicted": dry}))


def is_echo(error: Exception) -> bool:
    """Whether a collective broke because another rank ended: that rank's end is what has to be told, not this.

    A rank with an echo waits for the launcher to see the other one, which then writes the record.
    """
    if isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError):
        return True
    return "gloo/transport" in str(error)


def end(results: Path, record: Record) -> NoReturn:
    """The first rank to fail writes the record; the others hang in a collective and are ended by the launcher."""
    records.write(results, record)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(FAILED)  # teardown would wait for ranks that are stuck


def status_of(error: Exception) -> Status:
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, Unsupported):
        return "unsupported"
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return "out_of_memory"
    return "failed"


def describe(error: Exception, phase: str, world: World) -> Failure:
    asked = re.search(r"[Tt]ried to allocate ([\d.]+) ([KMG]i?B|bytes)", str(error))
    free = (
        torch.cuda.mem_get_info(world.device)[0] if world.device.type == "cuda" else psutil.virtual_memory().available
    )
    return Failure(
        phase=phase,
        rank=world.rank,
        host=world.host,
        exception=f"{type(error).__name__}: {error}"[:2000],
        step=error.step if isinstance(error, Diverged) else None,
        bytes_asked=_bytes(*asked.groups()) if asked else None,
        bytes_free=free,
        log=tuple(traceback.format_exc().splitlines()[-20:]),
    )


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * 1024 ** "BKMG".index(unit[0].upper()))


class Events:
    """Lines for the launcher: which cell runs, in which phase, at which step."""

    def __init__(self, file: Path | None, cell: str):
        self.file, self.cell = file, cell

    def progress(self, progress: Progress) -> None:
        self._write({"phase": progress.phase, "step": progress.step, "steps": progress.steps})

    def _write(self, event: dict[str, Any]) -> None:
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"cell": self.cell, **event}) + "\n")


if __name__ == "__main__":
    main()
