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

from bench.checks.plan.fit import Seen
from bench.checks.plan.lengths import Lengths, longest
from bench.checks.plan.plan import Entry
from bench.checks.plan.probes import MARK, OFFLOADED, elsewhere, probe, worlds
from bench.checks.plan.timeline import PASSING, Moment
from bench.data.batches import EVALUATION_BATCH
from bench.matrix import matrix
from bench.matrix.cell import Cell, changed
from bench.records.record import OWNERS

PART = 12  # dry runs of a process: two of them finish at about the same time, and none leaks for long
Key = tuple[str, int, int]  # a probe's name, the tokens of its tests, and the ranks
Found = dict[Key, dict[str, Any]]


def plan(name: str, world_sizes: list[int]) -> list[Entry]:
    """The cells of a matrix, on other numbers of ranks if any are given. InputError as in `matrix.load`."""
    cells = [resized(cell, ranks) for cell in matrix.load(name).expand() for ranks in world_sizes or [cell.ranks]]
    return predict(list({cell.name: cell for cell in cells}.values()), Console(stderr=True))


def resized(cell: Cell, ranks: int) -> Cell:
    """On other ranks, each with the micro-batch it had."""
    return changed(cell, ranks=ranks, micro_batch_size=cell.micro, batch_size=ranks * cell.micro * cell.accumulation)


def predict(cells: list[Cell], console: Console) -> list[Entry]:
    """Every cell run dry; those that cannot differ are run once."""
    lengths = [longest(cell) for cell in cells]
    probes: dict[Key, Cell] = {}
    for cell, length in zip(cells, lengths, strict=True):
        for ranks in worlds(cell.ranks):
            made = probe(cell, length.train, ranks)
            probes[made.name, length.test, ranks] = made
    found: Found = {}
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("dry runs", total=len(probes))
        for key, result in _run(probes, os.cpu_count() or 1):
            found[key] = result
            bar.advance(task)
    return [_entry(cell, length, found) for cell, length in zip(cells, lengths, strict=True)]


def _run(probes: dict[Key, Cell], processes: int) -> Iterator[tuple[Key, dict[str, Any]]]:
    """The results as they come; a probe whose process died has one that says so."""
    by_ranks: dict[int, list[Key]] = {}
    for key in probes:
        by_ranks.setdefault(key[2], []).append(key)
    size = max(1, min(PART, -(-len(probes) // processes)))
    parts = [keys[i : i + size] for keys in by_ranks.values() for i in range(0, len(keys), size)]
    results: queue.Queue[tuple[Key, dict[str, Any]]] = queue.Queue()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(processes) as pool:
        for number, keys in enumerate(parts):
            part = {key: probes[key] for key in keys}
            pool.submit(_process, part, Path(folder) / f"{number}.json", results.put)
        for _ in probes:
            yield results.get()


def _process(part: dict[Key, Cell], file: Path, put: Callable[[tuple[Key, dict[str, Any]]], None]) -> None:
    """One process for probes on the same ranks; whatever happens, each gets a result."""
    left = list(part)
    said: list[str] = []
    queued = [{"cell": made.content(), "test_tokens": key[1]} for key, made in part.items()]
    file.write_text(json.dumps(queued), "utf-8")
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", f"{__package__}.worker", str(left[0][2]), str(file)]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **streams) as process:
        for line in process.stdout or ():
            if line.startswith(MARK):
                put((left.pop(0), json.loads(line.removeprefix(MARK))))
            elif line.strip():
                said = [*said[-4:], line.strip()]
    for key in left:
        put((key, {"error": f"the dry run ended: {' '.join(said)[-300:]}"}))


def _entry(cell: Cell, lengths: Lengths, found: Found) -> Entry:
    results = [found[probe(cell, lengths.train, ranks).name, lengths.test, ranks] for ranks in worlds(cell.ranks)]
    if errors := [result["error"] for result in results if "error" in result]:
        return Entry(cell, lengths.train, error=errors[0])
    few, more = results[0], results[-1]
    phases = {
        "setup": _seen(cell, EVALUATION_BATCH, few["setup"], few["setup"], more["setup"]),
        "train": _seen(cell, cell.micro, few["train"], few["doubled"], more["train"]),
        "evaluate": _seen(cell, EVALUATION_BATCH, few["evaluate"], few["evaluate"], more["evaluate"]),
    }
    if elsewhere(cell.zero):  # while it is set up, nobody tells what is made for the host
        del phases["setup"]
    return Entry(cell, lengths.train, phases)


def _seen(cell: Cell, examples: int, few: list[Moment], doubled: list[Moment], more: list[Moment]) -> Seen:
    """Moments that do not correspond are taken as one: the peaks."""
    if not len(few) == len(doubled) == len(more):
        few, doubled, more = ([max(one, key=lambda moment: sum(moment.values()))] for one in (few, doubled, more))
    few, doubled, more = ([_owned(moment, cell) for moment in one] for one in (few, doubled, more))
    ranks = worlds(cell.ranks)
    if len(ranks) == 1:
        return Seen(examples, ranks[0], few, doubled)
    return Seen(examples, ranks[0], few, doubled, ranks[1], more)


def _owned(moment: Moment, cell: Cell) -> Moment:
    """By all owners; gradients on their way to the host apart from those that are there."""
    owned = {owner: moment.get(owner, 0) for owner in OWNERS}
    passing = moment.get(PASSING, 0)
    if OFFLOADED in elsewhere(cell.zero):
        return owned | {OFFLOADED: owned["gradients"], "gradients": passing}
    return owned | {"gradients": owned["gradients"] + passing}
