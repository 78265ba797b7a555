"""Dry runs: `python -m bench.checks.plan.worker RANKS FILE`; a line of JSON on stdout for each, in the file's order."""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
from pathlib import Path

from bench.checks.plan.dry import run
from bench.checks.plan.probes import MARK
from bench.matrix.cell import rebuild
from bench.training.engine import World


def main() -> None:
    world = World.pretend(int(sys.argv[1]))
    for number, queued in enumerate(json.loads(Path(sys.argv[2]).read_text("utf-8"))):
        try:
            found = dataclasses.asdict(run(rebuild(queued["cell"]), world, queued["test_tokens"]))
        except Exception as error:  # whatever it was, it is what this configuration gives
            found = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(MARK + json.dumps(found), flush=True)
        if number == 0:
            gc.freeze()  # what the libraries are made of; each ledger looks through all that is not


if __name__ == "__main__":
    main()
