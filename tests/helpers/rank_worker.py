"""What warm ranks run (ranks.py): `python -m rank_worker FOLDER` on each. A line of the queue is a cell or a call."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from bench.cluster.heartbeat import pulse
from bench.cluster.timeouts import Timeouts
from bench.core import files
from bench.data import sources
from bench.matrix.cell import rebuild
from bench.training import worker
from bench.training.engine import World


def main() -> None:
    folder = Path(next(argument for argument in sys.argv[1:] if not argument.startswith("--")))
    timeouts = Timeouts(**json.loads((folder / "group.json").read_text("utf-8"))["timeouts"])
    sources.use({})
    world = World.join()
    for number, line in enumerate(worker.queue(folder / "queue.jsonl", timeouts), 1):
        if "call" in line:
            call(line, world)
        else:
            worker.serve(rebuild(line["cell"]), world, Path(line["results"]), line, {"launcher": "deepspeed"}, timeouts)
        gc.collect()
        if number == 1:
            gc.freeze()  # as bench.training.worker does
    world.leave()


def call(line: dict[str, Any], world: World) -> None:
    """Calls a function and writes what it returns. An exception ends the process: other ranks may wait for this one."""
    module, _, name = line["call"].partition(":")
    answer = Path(line["answers"][world.rank])
    pulse.count_progress()
    try:
        made = getattr(importlib.import_module(module), name)(world, *line["arguments"])
        content = json.dumps({"result": made, "error": None})
    except Exception:
        files.write(answer, json.dumps({"result": None, "error": f"rank {world.rank}: {traceback.format_exc()}"}))
        sys.stderr.flush()
        os._exit(worker.FAILED)
    files.write(answer, content)


if __name__ == "__main__":
    main()
