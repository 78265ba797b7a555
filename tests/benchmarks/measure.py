"""Benchmarks of the suite itself: `measure.py expand` or `measure.py overhead RESULTS`.

expand: seconds to expand a matrix of 100,000 cells. overhead: of the cells in RESULTS, the seconds each took beyond
its own training and evaluation, starts of process groups included.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path


def expand() -> None:
    from bench.matrix import matrix

    axes = {
        "backbone": ["toy-encoder", "roberta-large", "gpt2", "bert-base"],
        "task": ["sst2", "trec"],
        "regime": ["full", {"total": 100}, {"total": 500}, {"per_class": 16}, {"per_class": 8}],
        "method": ["full", "prompt_tuning", *({"kind": "late_prompt", "depth": depth} for depth in range(3))],
        "regularizer": ["none", "noise", "attack", {"kind": "noise", "sigma": 0.1}, {"kind": "noise", "sigma": 0.2}],
        "zero": ["zero0", "zero1", "zero2", "zero3"],
        "ranks": [1, 2, 4, 8, 16],
        "seed": list(range(5)),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.yaml"
        file.write_text(json.dumps({"axes": axes}))
        start = time.perf_counter()
        cells = matrix.load(str(file)).expand()
        seconds = time.perf_counter() - start
    print(f"{len(cells):,} cells in {seconds:.2f} s")


def overhead(results: str) -> None:
    from bench.records import store

    made = [record for record in store.read_all(Path(results)).records if record.cost]
    own = sum(r.cost.seconds.get("train", 0) + r.cost.seconds.get("evaluate", 0) for r in made if r.cost)
    ends = [datetime.fromisoformat(r.finished).timestamp() for r in made]
    queues = [file.stat().st_mtime for file in Path(results).glob(".run/*/*/queue.json")]
    whole = max(ends) - min(queues)
    print(f"{len(made)} cells in {whole:.1f} s, of which {own:.1f} s training and evaluating")
    print(f"{(whole - own) / len(made):.2f} s a cell beyond that, {100 * (whole - own) / whole:.1f} % of the whole")


if __name__ == "__main__":
    {"expand": expand, "overhead": overhead}[sys.argv[1]](*sys.argv[2:])
