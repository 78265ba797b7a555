"""leaderboard.csv: a line per cell, every figure, unrounded; unknown is empty."""

from __future__ import annotations

import csv as library
import io
from collections.abc import Sequence

from bench.board.grouping import role
from bench.board.memory import least_peak, neediest
from bench.records import OWNERS, Record, Surface

USUAL = {"weights": "pretrained", "attention": "sdpa", "compile": False}  # columns only where a cell has another value
PHASES = ("load", "setup", "cache", "train", "evaluate", "save", "landscape", "attack")
MEASURED = ("setup", "train", "evaluate")  # the phases whose memory is


def csv(records: Sequence[Record]) -> str:
    lines = [line(record) for record in sorted(records, key=lambda record: record.name)]
    columns = list(dict.fromkeys(column for one in lines for column in one))
    out = io.StringIO()
    writer = library.DictWriter(out, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def line(record: Record) -> dict[str, object]:
    """The columns of one cell."""
    cell, quality, cost = record.cell, record.quality, record.cost
    step = cost.step_milliseconds if cost else None
    made: dict[str, object] = {"name": record.name, "status": record.status, **record.labels.model_dump()}
    made |= {"protocol": cell.get("protocol"), "departures": "; ".join(record.labels.departures)}
    made |= {"role": role(cell), "candidate": (cell.get("tuning") or {}).get("candidate")}
    made |= {
        key: cell.get(key) for key in ("ranks", "precision", "checkpointing", "steps", "batch_size", "select", "seed")
    }
    made |= {key: cell.get(key) for key in ("epochs", "evaluate_every", "patience")}
    made["steps"] = cost.steps if cost else None if cell.get("epochs") else cell.get("steps")
    made["vary"] = " ".join(cell.get("vary") or [])
    made |= {key: cell[key] for key, usual in USUAL.items() if cell.get(key, usual) != usual}
    made |= {
        "metric": quality.metric if quality else None,
        "dev": quality.dev if quality else None,
        "test": quality.test if quality else None,
        "constant": quality.constant if quality else None,
        "selected_step": quality.selected_step if quality else None,
        "stopped_step": quality.stopped_step if quality else None,
        "sample": quality.sample if quality else None,
        "data": quality.data if quality else None,
        "origin": quality.origin if quality else None,
        "tokens_per_second": cost.tokens_per_second if cost else None,
        "samples_per_second": cost.samples_per_second if cost else None,
        "step_milliseconds_p50": step.p50 if step else None,
        "step_milliseconds_p90": step.p90 if step else None,
        "step_milliseconds_p99": step.p99 if step else None,
        "trainable_parameters": cost.trainable_parameters if cost else None,
        "total_parameters": cost.total_parameters if cost else None,
        "checkpoint_bytes": cost.checkpoint_bytes if cost else None,
        "forward_equivalents": cost.forward_equivalents if cost else None,
        "flops_per_step": cost.flops if cost else None,
        "mfu": cost.mfu if cost else None,
        "joules_per_step": cost.joules if cost else None,
        "data_wait_share": cost.data_wait_share if cost else None,
        "feature_cache": cell.get("feature_cache"),
        "feature_cache_bytes": cost.feature_cache_bytes if cost else None,
        "feature_cache_built": cost.feature_cache_built if cost else None,
    }
    made |= {f"test_{name}": score for name, score in (quality.scores if quality else {}).items()}
    made |= {f"{phase}_seconds": cost.seconds.get(phase) if cost else None for phase in PHASES}
    for phase in MEASURED:
        made |= _memory(record, phase)
    predicted = record.predicted
    made |= {
        f"predicted_{phase}_peak_bytes": sum(predicted.device[phase].values())
        if predicted and phase in predicted.device
        else None
        for phase in ("train", "evaluate")
    }
    made["predicted_host_bytes"] = sum(predicted.host.values()) if predicted else None
    made |= _landscape(record)
    failure = record.failure
    made["failure_phase"] = failure.phase if failure else None
    made["failure"] = failure.exception.partition("\n")[0] if failure else None
    made["failure_bytes_asked"] = failure.bytes_asked if failure else None
    made["failure_bytes_free"] = failure.bytes_free if failure else None
    made["failure_inferred_from"] = failure.inferred_from if failure else None
    return made


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
