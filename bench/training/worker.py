"""A process group that serves many cells: `python -m bench.training.worker FOLDER` on every rank, under its guard.

FOLDER holds queue.jsonl, the cells to run in their order, which the run goes on writing; each rank tells its guard how
far it is. A record is written before anything is torn down. After a failure, or when memory does not come back, the
group ends and the launcher starts another one for what is left.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil
import torch

from bench.cluster.heartbeat import pulse
from bench.cluster.timeouts import Timeouts
from bench.core import files
from bench.core.settings import Unsupported
from bench.data import sources
from bench.matrix.cell import Cell, rebuild
from bench.profiler import PhaseClock
from bench.records import store
from bench.records.record import Failure, Predicted, Record, Status
from bench.training.engine import World
from bench.training.train import Diverged, Progress, run_cell

MAX_CELLS = 200  # of one group: every engine leaves a little behind
MAX_LEAK_BYTES = 2 * 2**30  # growth of a rank's resident memory since its first cell
FAILED = 3  # exit status after a failure
# of torch's allocators, of CUDA in other calls, of cuBLAS, of the operating system
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|_ALLOC_FAILED", re.IGNORECASE)


def main() -> None:
    folder = Path(next(argument for argument in sys.argv[1:] if not argument.startswith("--")))
    group = json.loads((folder / "group.json").read_text("utf-8"))
    results, timeouts = Path(group["results"]), Timeouts(**group["timeouts"])
    launcher = str(group["launcher"])
    started = {"alone": group["alone"], "launcher": "deepspeed" if launcher == "pdsh" else launcher}
    sources.use(group["commits"])
    world = World.join()
    base: int | None = None
    for number, line in enumerate(queue(folder / "queue.jsonl", timeouts), 1):
        serve(rebuild(line["cell"]), world, results, line, started, timeouts)
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


def queue(file: Path, timeouts: Timeouts) -> Iterator[dict[str, Any]]:
    """The lines of the queue, as they come, to its end."""
    position = 0
    while True:
        with file.open("rb") as lines:  # anew each time: what storage shared by hosts has is looked up then
            lines.seek(position)
            whole, newline, _ = lines.read().rpartition(b"\n")
        position += len(whole) + len(newline)
        for one in whole.splitlines():
            if "end" in (line := json.loads(one)):
                return
            yield line
        if not whole:
            time.sleep(timeouts.queue)


def serve(
    cell: Cell, world: World, results: Path, line: dict[str, Any], how: dict[str, Any], timeouts: Timeouts
) -> None:
    """Runs one cell and writes its record. A failure ends the process, after its record is written.

    `line` has, for the record, what a dry run gave and the runs before that ended with a host, and `how`
    has what the environment does not tell of itself.
    """
    dry = Predicted.model_validate(line["predicted"]) if line["predicted"] else None
    known: dict[str, Any] = {"predicted": dry, "lost": tuple(Failure.model_validate(one) for one in line["lost"])}
    clock, started = PhaseClock(), store.now()

    def tell(progress: Progress) -> None:
        pulse.report(cell=cell.name, phase=progress.phase, step=progress.step, steps=progress.steps)

    try:
        record = run_cell(cell, world, clock, tell)
    except Exception as error:  # whatever it was, it is this cell's result
        traceback.print_exc()
        if is_echo(error):
            time.sleep(timeouts.echo)
            os._exit(FAILED)
        failure = describe(error, clock.current, world)
        end(results, cell.without_result(status_of(error), failure, started).model_copy(update=known), timeouts)
    if record is not None:
        assert record.environment is not None
        known["environment"] = record.environment.model_copy(update=how)
        write(results, record.model_copy(update=known), timeouts)


def write(results: Path, record: Record, timeouts: Timeouts) -> None:
    """As soon as there is room for it: what was measured is not lost to a full disk."""
    while True:
        try:
            store.write(results, record)
            return pulse.report(trouble="")
        except OSError as error:
            if error.errno not in files.TRANSIENT_ERRNOS:
                raise
            where = f"{store.path(results, record.name)} cannot be written ({error.strerror}): waiting"
            pulse.report(phase="write", trouble=where)
            time.sleep(timeouts.room)


def is_echo(error: Exception) -> bool:
    """Whether a collective broke because another rank ended: that rank's end is what has to be told, not this.

    A rank with an echo waits for the launcher to see the other one, which then writes the record.
    """
    text = str(error)
    if OUT_OF_MEMORY.search(text):  # as NCCL tells its own
        return False
    return isinstance(error, torch.distributed.DistError) or "gloo/transport" in text


def end(results: Path, record: Record, timeouts: Timeouts) -> NoReturn:
    """The first rank to fail writes the record; the others hang in a collective and are ended by the launcher."""
    write(results, record, timeouts)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(FAILED)  # teardown would wait for ranks that are stuck


def status_of(error: Exception) -> Status:
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, Unsupported):
        return "unsupported"
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or OUT_OF_MEMORY.search(str(error)):
        return "out_of_memory"
    return "failed"


def describe(error: Exception, phase: str, world: World) -> Failure:
    asked = re.search(r"[Tt]ried to allocate ([\d.]+) ([KMG]i?B|bytes)", str(error))
    return Failure(
        phase=phase,
        rank=world.rank,
        host=world.host,
        exception=f"{type(error).__name__}: {error}"[:2000],
        step=error.step if isinstance(error, Diverged) else None,
        bytes_asked=_bytes(*asked.groups()) if asked else None,
        bytes_free=_free(world),
        log=tuple(traceback.format_exc().splitlines()[-20:]),
    )


def _free(world: World) -> int | None:
    """Bytes; None where a device has failed so that it cannot be asked any more."""
    if world.device.type != "cuda":
        return psutil.virtual_memory().available
    with contextlib.suppress(RuntimeError):
        return torch.cuda.mem_get_info(world.device)[0]
    return None


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * 1024 ** "BKMG".index(unit[0].upper()))


if __name__ == "__main__":
    main()
