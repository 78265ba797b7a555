"""A process group that serves many probes: `deepspeed --module bench.checks.preflight.worker FOLDER`.

FOLDER holds queue.json. Before a probe rank 0 puts its name into started/, after it the verdict into verdicts/. After
an exception the group ends and the launcher starts another one for what is left; unless all ranks met it while the
engine was set up, before anything of this probe went between them: so it is where DeepSpeed refuses a configuration.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

import torch

from bench.checks.preflight.check import Reference, check
from bench.checks.preflight.verdicts import UNCHECKED, Verdict
from bench.cluster.timeouts import Timeouts
from bench.core import files
from bench.matrix.cell import Cell, rebuild
from bench.profiler import PhaseClock
from bench.records import environment
from bench.training.engine import LINEAR, World
from bench.training.train import accelerator
from bench.training.worker import FAILED, MAX_CELLS, is_echo


def main() -> None:
    folder = Path(next(argument for argument in sys.argv[1:] if not argument.startswith("--")))
    queue = json.loads((folder / "queue.json").read_text("utf-8"))
    timeouts = Timeouts(**json.loads((folder / "group.json").read_text("utf-8"))["timeouts"])
    world = World.join()
    hosts = world.gather(world.host)
    if world.rank == 0:
        where = environment.describe(hosts, accelerator(world), torch.get_num_threads(), "deepspeed")
        files.write(folder / "environment.json", where.model_dump_json())
    reference: Reference | None = None
    for number, content in enumerate(queue["probes"][:MAX_CELLS]):
        reference = serve(rebuild(content), world, folder, reference, timeouts) or reference
        gc.collect()
        if number == 0:
            gc.freeze()  # what the libraries are made of; DeepSpeed collects too, 0.3 s each time with all of it
    world.leave()
    _exit(0)


def serve(probe: Cell, world: World, folder: Path, known: Reference | None, timeouts: Timeouts) -> Reference | None:
    """Writes the verdict. An exception that other ranks may not have had ends the process."""
    if world.rank == 0:
        files.write(folder / "started" / probe.name, "")
    clock = PhaseClock()
    try:
        verdict, reference = check(probe, world, clock, known)
    except Exception as error:  # whatever it was, it is this probe's result
        traceback.print_exc()
        if is_echo(error):
            time.sleep(timeouts.echo)
            os._exit(FAILED)
        exception = f"{type(error).__name__}: {error}"[:2000]
        seconds = sum(clock.seconds.values())
        refused = Verdict(finding="unsupported", phase=clock.current, exception=exception, seconds=seconds)
        write(folder, probe.name, refused)
        if clock.current in ("setup", UNCHECKED) and all_refused(probe.name, world, folder, timeouts):
            torch.nn.functional.linear = LINEAR  # a ZeRO-3 engine that was not finished does not put it back
            return None
        _exit(FAILED)
    if verdict is not None:
        seconds = clock.seconds["setup"] + clock.seconds["gradients"]
        write(folder, probe.name, verdict.model_copy(update={"seconds": round(seconds, 3)}))
    return reference


def write(folder: Path, name: str, verdict: Verdict) -> None:
    """The first rank's word counts."""
    files.write_once(folder / "verdicts" / f"{name}.json", verdict.model_dump_json())


def all_refused(name: str, world: World, folder: Path, timeouts: Timeouts) -> bool:
    """Whether every rank is here; by files, since a rank that is not cannot answer."""
    files.write(folder / "refused" / f"{name}.{world.rank}", "")
    end = time.monotonic() + timeouts.agree
    while time.monotonic() < end:
        if all((folder / "refused" / f"{name}.{rank}").is_file() for rank in range(world.size)):
            return True
        time.sleep(timeouts.queue)
    return False


def _exit(status: int) -> NoReturn:
    """Without a teardown: after a failure it would wait for ranks that are stuck, else it only takes seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
