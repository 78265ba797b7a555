"""leaderboard.csv: a line per cell, every figure, unrounded; unknown is empty."""

from __future__ import annotations

import csv as library
import io

from bench.records import Record, Surface

USUAL = {"weights": "pretrained", "attention": "sdpa", "compile": False}  # columns only where a cell has another value
PHASES = ("load", "setup", "cache", "train", "evaluate", "save", "landscape", "attack")


def csv(records: list[Record]) -> str:
    lines = [line(record) for record in sorted(records, key=lambda record: record.name)]
    columns = list(dict.fromkeys(column for one in lines for column in one))
    out = io.StringIO()
    writer = library.DictWriter(out, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def line(record: Record) -> dict[str, object]:
    """The columns of one cell. Peaks are the largest over ranks."""
    cell, quality, cost = record.cell, record.quality, record.cost
    step = cost.step_milliseconds if cost else None
    made: dict[str, object] = {"name": record.name, "status": record.status, **record.labels.model_dump()}
    made |= {
        key: cell.get(key) for key in ("ranks", "precision", "checkpointing", "steps", "batch_size", "select", "seed")
    }
    made |= {key: cell[key] for key, usual in USUAL.items() if cell.get(key, usual) != usual}
    made |= {
        "metric": quality.metric if quality else None,
        "dev": quality.dev if quality else None,
        "test": quality.test if quality else None,
        "selected_step": quality.selected_step if quality else None,
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
    made |= {f"{phase}_seconds": cost.seconds.get(phase) if cost else None for phase in PHASES}
    for phase in ("train", "evaluate"):
        rows = [row for row in record.memory if row.phase == phase]
        peaks = [row.peak_allocated_bytes for row in rows if row.peak_allocated_bytes is not None]
        resident = [row.rss_bytes for row in rows if row.rss_bytes is not None]
        made[f"{phase}_peak_bytes_per_rank"] = max(peaks, default=None)
        made[f"{phase}_rss_bytes_per_rank"] = max(resident, default=None)
    made |= _landscape(record)
    made["failure_phase"] = record.failure.phase if record.failure else None
    made["failure"] = record.failure.exception.splitlines()[0] if record.failure else None
    return made


def _landscape(record: Record) -> dict[str, object]:
    """The scalars of both surfaces, each with its radius."""
    surfaces = record.landscape
    made: dict[str, object] = {"landscape_examples": surfaces.examples if surfaces else None}
    for kind in ("embeddings", "weights"):
        surface: Surface | None = getattr(surfaces, kind, None)
        for column in ("grid", "radius", "rise", "slope", "curvature"):
            made[f"landscape_{kind}_{column}"] = getattr(surface, column, None)
    return made
