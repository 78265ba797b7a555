"""Reads tasks in a process of its own, since HF_HOME and HF_ENDPOINT are read when the libraries are imported.

`python hub_script.py CASES`: a JSON list of {hub: {...}, labels: [...], parts: [...], commits: {...}, data: ...},
where data is a folder for BENCH_DATA; prints what each gives, as JSON lines.
"""

from __future__ import annotations

import json
import os
import sys

from bench.core.settings import InputError
from bench.data import sources
from bench.data.splits import read_examples
from bench.data.tasks import Hub, Task


def outcome(case: dict) -> dict:
    os.environ.pop("BENCH_DATA", None)
    if "data" in case:
        os.environ["BENCH_DATA"] = case["data"]
    sources.use(case.get("commits", {}))
    labels = tuple(case.get("labels", (0, 1)))
    task = Task(
        name="films",
        source=case.get("source", "hub"),
        folder="films",
        hub=Hub.model_validate(case["hub"]),
        splits={"train": ("train",), "test": tuple(case.get("test", ["validation"]))},
        fields=("sentence",),
        labels=labels,
        words=tuple(f"word{i}" for i in range(len(labels))),
        masked="{sentence} {mask}",
        causal="{sentence}",
    )
    try:
        found = read_examples(task)
    except InputError as error:
        return {"error": str(error)}
    splits = {name: [[*e.texts, e.label] for e in split] for name, split in found.splits.items()}
    return {"origin": found.origin, "hash": found.hash, "parts": found.parts, "commits": sources.resolved(), **splits}


if __name__ == "__main__":
    for case in json.loads(sys.argv[1]):
        print("OUTCOME" + json.dumps(outcome(case)))
