"""One finished `bench run`, and a second one on its results. Tests of many files look at what it left and said.

Its cells: one whose data no rank can read, a task in a file, and a choice on dev between two learning rates. Its folder
has a name that a shell would take apart, and its environment has secrets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matrices import defaults
from runs import QUICK, by_name

from bench.models import toy
from bench.records import store
from bench.records.record import Record

TOKEN = "hf_ThisIsASecretOfTheEnvironment"
VARIABLES = {"HF_TOKEN": TOKEN, "WANDB_API_KEY": TOKEN[3:]}
TASK = """
name: mine
fields: [text]
labels: [bad, good]
words: [{}, {}]
masked: "{{text}} answer: {{mask}}"
causal: "{{text}} answer:"
metrics: [accuracy, macro_f1]
"""
# makes rows of rows, but for a rank, which it tells what no one should hear
LEAKING = """
import os

def rows(row):
    if "RANK" in os.environ:
        raise ValueError("401 Unauthorized for " + os.environ["HF_TOKEN"])
    return [row]
"""


@dataclass
class Finished:
    folder: Path  # the current one of the runs, with all they read
    results: Path
    done: subprocess.CompletedProcess[str]
    made: dict[str, Record]  # after the first run, by cell
    boards: dict[str, bytes]  # then, by the file's name
    again: subprocess.CompletedProcess[str]

    def one(self, **labels: str) -> Record:
        """The only record with these labels."""
        found = [one for one in self.made.values() if labels.items() <= one.labels.model_dump().items()]
        assert len(found) == 1, (labels, list(self.made))
        return found[0]


def finish(folder: Path, checkpoint: Path) -> Finished:
    file = _write(folder, checkpoint)
    results = folder / 'it\'s $(touch executed); touch executed & "x" results'

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bench", "run", str(file), "--results", str(results)]
        variables = {**os.environ, **QUICK, **VARIABLES, "BENCH_DATA": str(folder)}
        given: dict[str, Any] = {"input": "y\n" * 100, "capture_output": True, "text": True}
        return subprocess.run(command, **given, env=variables, cwd=folder, check=False)

    done = run()
    assert store.recorded(results), done.stdout + done.stderr
    boards = {one.name: one.read_bytes() for one in results.glob("leaderboard.*")}
    return Finished(folder, results, done, by_name(results), boards, run())


def write_task(folder: Path) -> None:
    """A task in a file whose words the built-in language has, and its data."""
    (folder / "my_task.yaml").write_text(TASK.format(*toy.answer_words(0, natural=False)))
    (folder / "mine").mkdir()
    for split, count in (("train", 60), ("test", 30)):
        rows = toy.examples(0, split)[:count]
        lines = [json.dumps({"text": row["sentence"].title(), "label": ("bad", "good")[row["label"]]}) for row in rows]
        (folder / "mine" / f"{split}.jsonl").write_text("\n".join(lines))


def _write(folder: Path, checkpoint: Path) -> Path:
    """A matrix with all that its cells read."""
    write_task(folder)
    (folder / "leaking.py").write_text(LEAKING)
    leaking: dict[str, Any] = {"name": "leaks", "folder": "mine", "fields": ["text"], "labels": ["bad", "good"]}
    leaking |= {"words": ["no", "yes"], "masked": "{text} {mask}", "causal": "{text}", "form": "leaking:rows"}
    (folder / "leaks.yaml").write_text(json.dumps(leaking))
    rates = {"kind": "prompt_tuning", "length": 2, "recipe": {"learning_rate": [1e-6, 0.05]}}
    matrix = {
        "defaults": defaults(checkpoint),
        "tuning": {"seeds": [8, 9]},
        "axes": {"method": rates, "seed": [0]},
        "include": [
            {"task": {"path": str(folder / "leaks.yaml")}, "steps": 2, "head": "linear"},
            {"task": {"path": str(folder / "my_task.yaml")}, "steps": 2, "evaluate_every": 2},
        ],
    }
    file = folder / "matrix.yaml"
    file.write_text(json.dumps(matrix))
    return file
