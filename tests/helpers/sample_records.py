"""Records as finished cells leave them, without a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bench.records.record import OWNERS, Cost, Failure, Labels, Memory, Predicted, Quality, Quantiles, Record

MIB, GIB = 2**20, 2**30


def record(name: str = "a", seed: int = 0, test: float | None = 0.8, **changes: Any) -> Record:
    """A record as a finished cell leaves it; `test` None for one that failed."""
    labels: dict[str, Any] = {key: key for key in Labels.model_fields} | {"recipe": "", "departures": ()}
    for key in labels.keys() & changes.keys():
        labels[key] = changes.pop(key)
    cell = {"method": labels["method"], "regularizer": labels["regularizer"], "seed": seed, "ranks": 2}
    cell |= {
        "steps": 10,
        "batch_size": 8,
        "precision": "fp32",
        "select": "best_dev",
        "backbone": labels["backbone"],
        "task": labels["task"],
    }
    made: dict[str, Any] = {
        "name": name,
        "cell": cell,
        "labels": Labels(**labels),
        "status": "ok",
        "started": "2026-01-01T00:00:00.000+00:00",
        "finished": "2026-01-01T00:00:01.000+00:00",
    }
    if test is None:
        made |= {"status": "failed", "failure": Failure(phase="train", rank=1, host="h", exception="E: why\nmore")}
    else:
        made["quality"] = Quality(
            metric="accuracy",
            dev=0.7,
            test=test,
            scores={"accuracy": test},
            constant=0.5,
            selected_step=5,
            outcomes="10",
            predicted="11",
            curve=(),
            examples={"train": 1},
            sample="s",
            data="d",
            origin="built-in",
        )
        made["cost"] = Cost(
            steps=10,
            tokens_per_second=1000.0,
            samples_per_second=10.0,
            step_milliseconds=Quantiles(p50=1.0, p90=2.0, p99=3.0),
            measured_steps=4,
            seconds={"train": 1.0},
            trainable_parameters=640,
            total_parameters=1000,
            checkpoint_bytes=2560,
        )
        made["memory"] = tuple(
            Memory(
                rank=rank,
                host="h",
                phase=phase,
                peak_allocated_bytes=size * (rank + 1),
                peak_reserved_bytes=None,
                rss_bytes=2**28,
                owners={},
            )
            for rank in range(2)
            for phase, size in (("train", 2**20), ("evaluate", 2**22))
        )
    return Record(**{**made, **changes})


def weighed(name: str = "a", peaks: Sequence[int] = (3 * MIB, 5 * MIB), **changes: Any) -> Record:
    """A finished record with memory by owner: half of each rank's peak is parameters, the rest activations.

    `cell`: fields of the cell; `predicted`: bytes of the train peak; `reserved`: of the allocator, as on a GPU.
    """
    cell, predicted, reserved = (changes.pop(key, None) for key in ("cell", "predicted", "reserved"))
    made = record(name, **changes)
    memory = [
        Memory(
            rank=rank,
            host="h",
            phase=phase,
            peak_allocated_bytes=peak + more,
            peak_reserved_bytes=reserved,
            rss_bytes=None,
            owners=dict.fromkeys(OWNERS, 0) | {"parameters": peak // 2, "activations": peak - peak // 2 + more},
        )
        for rank, peak in enumerate(peaks)
        for phase, more in (("setup", 0), ("train", 0), ("evaluate", MIB))
    ]
    device = {"train": {"parameters": predicted or 0}, "evaluate": {"parameters": MIB}}
    host = {"optimizer_state": MIB}
    foreseen = Predicted(tokens=8, device=device, host=host) if predicted else None
    update = {"cell": {**made.cell, **(cell or {})}, "memory": tuple(memory), "predicted": foreseen}
    return made.model_copy(update=update)


def tables(text: str) -> list[list[dict[str, str]]]:
    """Every table in `text`: its lines, as cells by column."""
    found: list[list[dict[str, str]]] = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        head, _, *lines = [[cell.strip() for cell in line.split(" | ")] for line in block.splitlines()]
        names = [name.strip("| ") for name in head]
        found.append([dict(zip(names, [c.strip("| ") for c in cells], strict=True)) for cells in lines])
    return found
