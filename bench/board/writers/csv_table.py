"""leaderboard.csv: a line per cell, every figure, unrounded; unknown is empty.

The columns are always the same but for the last ones, `test_<metric>`. What is a list in a record is in the record
alone: outcomes, predicted classes, curve, surfaces, log, and memory of the ranks between the neediest and the least.
"""

from __future__ import annotations

import csv as library
import io
from collections.abc import Sequence

from bench.board.analysis.grouping import role
from bench.board.sections.memory import least_peak, neediest
from bench.records.record import OWNERS, Record, Surface

CELL = (
    *("ranks", "precision", "checkpointing", "batch_size", "micro_batch_size", "max_length", "select", "seed"),
    *("epochs", "evaluate_every", "patience", "lower_dropout", "feature_cache"),
)
USUAL = {"weights": "pretrained", "attention": "sdpa", "compile": False}  # of cells that do not say
COST = {
    **{name: name for name in ("tokens_per_second", "samples_per_second", "measured_steps", "trainable_parameters")},
    **{name: name for name in ("total_parameters", "checkpoint_bytes", "forward_equivalents")},
    **{"flops_per_step": "flops", "mfu": "mfu", "joules_per_step": "joules"},
    **{name: name for name in ("data_wait_share", "feature_cache_bytes", "feature_cache_built")},
}
QUALITY = ("metric", "dev", "test", "constant", "selected_step", "stopped_step", "sample", "data", "origin")
FAILURE = ("rank", "host", "step", "bytes_asked", "bytes_free", "inferred_from")
ENVIRONMENT = ("commit", "dirty", "accelerator", "threads", "kernels", "launcher")
PHASES = ("load", "setup", "cache", "train", "evaluate", "save", "landscape", "attack")
MEASURED = ("setup", "train", "evaluate")  # the phases whose memory is


def csv(records: Sequence[Record]) -> str:
    ordered = sorted(records, key=lambda record: record.name)
    metrics = sorted({name for record in ordered if record.quality for name in record.quality.scores})
    out = io.StringIO()
    writer: library.DictWriter[str] | None = None
    for record in ordered:
        made = line(record) | _scores(record, metrics)
        if writer is None:
            writer = library.DictWriter(out, list(made), lineterminator="\n")
            writer.writeheader()
        writer.writerow(made)
    return out.getvalue()


def line(record: Record) -> dict[str, object]:
    """The columns of one cell."""
    cell, cost = record.cell, record.cost
    step = cost.step_milliseconds if cost else None
    made: dict[str, object] = {"name": record.name, "status": record.status, **record.labels.model_dump()}
    made |= {"protocol": cell.get("protocol"), "departures": "; ".join(record.labels.departures)}
    made |= {"role": role(cell), "candidate": (cell.get("tuning") or {}).get("candidate")}
    made |= {key: cell.get(key) for key in CELL}
    made["steps"] = cost.steps if cost else None if cell.get("epochs") else cell.get("steps")
    made["vary"] = " ".join(cell.get("vary") or [])
    made |= {key: cell.get(key, usual) for key, usual in USUAL.items()}
    made |= {name: getattr(record.quality, name, None) for name in QUALITY}
    examples = record.quality.examples if record.quality else {}
    made |= {f"{part}_examples": examples.get(part) for part in ("train", "dev", "test")}
    made |= {f"step_milliseconds_{name}": getattr(step, name, None) for name in ("p50", "p90", "p99")}
    made |= {column: getattr(cost, name, None) for column, name in COST.items()}
    made |= {f"{phase}_seconds": cost.seconds.get(phase) if cost else None for phase in PHASES}
    for phase in MEASURED:
        made |= _memory(record, phase)
    made |= _predicted(record)
    made |= _landscape(record)
    return made | _failure(record) | _environment(record)


def _scores(record: Record, metrics: Sequence[str]) -> dict[str, object]:
    """On test, by metric and part of test."""
    scores = record.quality.scores if record.quality else {}
    return {f"test_{name}": scores.get(name) for name in metrics}


def _predicted(record: Record) -> dict[str, object]:
    """Peaks of the rank that needs most, as a whole and by owner."""
    predicted = record.predicted
    made: dict[str, object] = {"predicted_tokens": predicted.tokens if predicted else None}
    for phase in MEASURED:
        owners = predicted.device.get(phase) if predicted else None
        made[f"predicted_{phase}_peak_bytes"] = None if owners is None else sum(owners.values())
        made |= {f"predicted_{phase}_{owner}_bytes": owners.get(owner) if owners else None for owner in OWNERS}
    host = predicted.host if predicted else None
    made["predicted_host_bytes"] = None if host is None else sum(host.values())
    return made | {f"predicted_host_{owner}_bytes": host.get(owner) if host else None for owner in OWNERS}


def _failure(record: Record) -> dict[str, object]:
    failure = record.failure
    made: dict[str, object] = {"failure_phase": failure.phase if failure else None}
    made["failure"] = failure.exception.partition("\n")[0] if failure else None
    return made | {f"failure_{name}": getattr(failure, name, None) for name in FAILURE}


def _environment(record: Record) -> dict[str, object]:
    environment = record.environment
    made: dict[str, object] = {name: getattr(environment, name, None) for name in ENVIRONMENT}
    made["hosts"] = " ".join(environment.hosts) if environment else None
    versions = sorted(environment.versions.items()) if environment else []
    made["versions"] = " ".join(f"{name}={version}" for name, version in versions)
    return made | {"started": record.started, "finished": record.finished}


def _memory(record: Record, phase: str) -> dict[str, object]:
    """Peaks and resident set are the largest over ranks; the owners are those of the rank with the highest peak."""
    most = neediest([record], phase)
    resident = [row.rss_bytes for row in record.memory if row.phase == phase and row.rss_bytes is not None]
    made: dict[str, object] = {
        f"{phase}_peak_bytes_per_rank": most.peak_allocated_bytes if most else None,
        f"{phase}_peak_bytes_least_rank": least_peak(record, phase),
        f"{phase}_rss_bytes_per_rank": max(resident, default=None),
        f"{phase}_reserved_bytes": most.peak_reserved_bytes if most else None,
        f"{phase}_outside_allocator_bytes": most.outside_allocator_bytes if most else None,
    }
    return made | {f"{phase}_{owner}_bytes": most.owners.get(owner) if most else None for owner in OWNERS}


def _landscape(record: Record) -> dict[str, object]:
    """The scalars of both surfaces, each with its radius."""
    surfaces = record.landscape
    made: dict[str, object] = {"landscape_examples": surfaces.examples if surfaces else None}
    for kind in ("embeddings", "weights"):
        surface: Surface | None = getattr(surfaces, kind, None)
        for column in ("grid", "radius", "rise", "slope", "curvature"):
            made[f"landscape_{kind}_{column}"] = getattr(surface, column, None)
    return made
