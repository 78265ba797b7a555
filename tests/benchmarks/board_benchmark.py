"""Seconds and memory of `bench board`: `python tests/benchmarks/board_benchmark.py RECORD [COUNT]`.

Makes COUNT records (10,000) of one real one that has a score, in a folder that is gone afterwards: settings of 20
methods with 5 seeds each, every record with scores, times and outcomes of its own. Then `bench board` runs on them as
a process of its own. What is wanted of 10,000 is less than 10 s and less than 1 GiB.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

METHODS, SEEDS = 20, 5
BACKBONES = ("bert-base", "bert-large", "roberta-base", "roberta-large", "gpt2", "gpt2-large", "opt-125m")


def varied(record: dict[str, Any], place: int, draw: random.Random) -> dict[str, Any]:
    """One of the records: which setting, method and seed it has follows from its `place`."""
    setting, within = divmod(place, METHODS * SEEDS)
    method, seed = divmod(within, SEEDS)
    task, backbone = f"task{setting // len(BACKBONES)}", BACKBONES[setting % len(BACKBONES)]
    chance = 0.6 + 0.01 * method + draw.gauss(0, 0.01)
    outcomes = "".join("1" if draw.random() < chance else "0" for _ in record["quality"]["outcomes"])
    test = outcomes.count("1") / len(outcomes)
    cell, quality, cost = record["cell"], record["quality"], record["cost"]
    cell = {**cell, "seed": seed, "backbone": {"name": backbone}, "task": {**cell["task"], "name": task}}
    cell |= {"method": {"kind": "late_prompt", "depth": method}, "tuning": None, "landscape": None}
    step = {name: value * draw.uniform(0.9, 1.1) for name, value in cost["step_milliseconds"].items()}
    return {
        **record,
        "name": f"{backbone}.{task}.{method}.s{seed}",
        "cell": cell,
        "labels": {**record["labels"], "backbone": backbone, "task": task, "method": f"late_prompt depth={method}"},
        "quality": {**quality, "test": test, "scores": {"accuracy": test}, "outcomes": outcomes, "sample": f"s{seed}"},
        "cost": {**cost, "step_milliseconds": step},
    }


def measure(results: Path) -> tuple[float, float, float]:
    """Of `bench board`: seconds, those of them on a processor, and the peak of the resident set in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "bench", "board", str(results)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"bench board ended with {status}"
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**10


def main(file: str, count: str = "10000") -> None:
    record = json.loads(Path(file).read_text())
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        (records := Path(folder) / "records").mkdir()
        for place in range(int(count)):
            made = varied(record, place, draw)
            (records / f"{made['name']}.json").write_text(json.dumps(made, indent=1))
        seconds, busy, peak = measure(Path(folder))
        size = sum(form.stat().st_size for form in Path(folder).glob("*.*"))
    print(f"{int(count):,} records in {seconds:.1f} s ({busy:.1f} s of a processor), {peak:.0f} MiB at the peak,")
    print(f"{size / 2**20:.1f} MiB written")


if __name__ == "__main__":
    main(*sys.argv[1:])
