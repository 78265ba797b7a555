"""`bench plan`, and the predictions that `bench run --skip-oom` goes by: dry runs in processes of their own."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from bench import matrix
from bench.batches import EVALUATION_BATCH
from bench.cells import Cell
from bench.predict.fit import Seen
from bench.predict.lengths import longest
from bench.predict.plan import Entry
from bench.predict.probes import MARK, probe, worlds
from bench.predict.timeline import Moment
from bench.preflight.probes import changed
from bench.records import OWNERS

PART = 12  # dry runs of a process: two of them finish at about the same time, and none leaks for long
Found = dict[tuple[str, int], dict[str, Any]]  # by probe and ranks


def plan(name: str, world_sizes: list[int]) -> list[Entry]:
    """The cells of a matrix, on other numbers of ranks if any are given. InputError as in `matrix.load`."""
    cells = [resized(cell, ranks) for cell in matrix.load(name).expand() for ranks in world_sizes or [cell.ranks]]
    return predict(list({cell.name: cell for cell in cells}.values()), Console(stderr=True))


def resized(cell: Cell, ranks: int) -> Cell:
    """On other ranks, each with the micro-batch it had."""
    return changed(cell, ranks=ranks, micro_batch_size=cell.micro, batch_size=ranks * cell.micro * cell.accumulation)


def predict(cells: list[Cell], console: Console, processes: int | None = None) -> list[Entry]:
    """Every cell run dry; those that cannot differ are run once."""
    tokens = [longest(cell) for cell in cells]
    probes = {
        (made.name, ranks): made
        for cell, length in zip(cells, tokens, strict=True)
        for ranks in worlds(cell.ranks)
        for made in [probe(cell, length, ranks)]
    }
    found: Found = {}
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("dry runs", total=len(probes))
        for made in _run(probes, processes or os.cpu_count() or 1):
            found[made["name"], made["ranks"]] = made
            bar.advance(task)
    return [_entry(cell, length, found) for cell, length in zip(cells, tokens, strict=True)]


def _run(probes: dict[tuple[str, int], Cell], processes: int) -> Iterator[dict[str, Any]]:
    """The results as they come; a probe whose process died has one that says so."""
    by_ranks: dict[int, list[Cell]] = {}
    for (_, ranks), made in probes.items():
        by_ranks.setdefault(ranks, []).append(made)
    size = max(1, min(PART, -(-len(probes) // processes)))
    parts = [(ranks, all_[i : i + size]) for ranks, all_ in by_ranks.items() for i in range(0, len(all_), size)]
    results: queue.Queue[dict[str, Any]] = queue.Queue()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(processes) as pool:
        for number, (ranks, part) in enumerate(parts):
            pool.submit(_process, ranks, part, Path(folder) / f"{number}.json", results.put)
        for _ in probes:
            yield results.get()


def _process(ranks: int, part: list[Cell], file: Path, put: Callable[[dict[str, Any]], None]) -> None:
    """One process; whatever happens, every probe of `part` gets a result."""
    missing = {made.name: made for made in part}
    said: list[str] = []
    file.write_text(json.dumps([made.content() for made in part]), "utf-8")
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "bench.predict.worker", str(ranks), str(file)]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **streams) as process:
        for line in process.stdout or ():
            if line.startswith(MARK):
                result = json.loads(line.removeprefix(MARK))
                del missing[result["name"]]
                put(result)
            elif line.strip():
                said = [*said[-4:], line.strip()]
    for name in missing:
        put({"name": name, "ranks": ranks, "error": f"the dry run ended: {' '.join(said)[-300:]}"})


def _entry(cell: Cell, tokens: int, found: Found) -> Entry:
    results = [found[probe(cell, tokens, ranks).name, ranks] for ranks in worlds(cell.ranks)]
    if errors := [result["error"] for result in results if "error" in result]:
        return Entry(cell, tokens, error=errors[0])
    first, last = (result["moments"] for result in (results[0], results[-1]))
    return Entry(
        cell,
        tokens,
        train=_seen(cell, cell.micro, first["train"], first["doubled"], last["train"]),
        evaluate=_seen(cell, EVALUATION_BATCH, first["evaluate"], first["evaluate"], last["evaluate"]),
    )


def _seen(cell: Cell, examples: int, few: list[Moment], doubled: list[Moment], more: list[Moment]) -> Seen:
    """Moments that do not correspond are taken as one: the peaks."""
    if not len(few) == len(doubled) == len(more):
        few, doubled, more = ([max(one, key=lambda moment: sum(moment.values()))] for one in (few, doubled, more))
    filled = [[{owner: moment.get(owner, 0) for owner in OWNERS} for moment in one] for one in (few, doubled, more)]
    ranks = worlds(cell.ranks)
    if len(ranks) == 1:
        return Seen(examples, ranks[0], filled[0], filled[1])
    return Seen(examples, ranks[0], filled[0], filled[1], ranks[1], filled[2])
