"""What a table is called: its setting in a title, and the details below."""

from __future__ import annotations

from typing import Any

from bench.records.record import Record


def title(record: Record) -> str:
    return " · ".join((subject(record), f"{record.labels.zero}, {ranks(record.cell)}"))


def subject(record: Record) -> str:
    """The title without ZeRO configuration and ranks."""
    labels = record.labels
    return " · ".join((labels.task, labels.regime, labels.backbone))


def details(record: Record) -> str:
    cell = record.cell
    return (
        f"{_length(cell)} of {cell.get('batch_size')} examples, {cell.get('precision')}, "
        f"{record.labels.head}, {_select(cell)}{_seeds(cell)}"
        f"{', checkpointing' if cell.get('checkpointing') else ''}"
        f"{', feature cache' if cell.get('feature_cache') else ''}"
        f"{_execution(cell)}{_landscape(cell.get('landscape'))}{_protocol(record)}"
    )


def is_cost_only(cell: dict[str, Any]) -> bool:
    return cell.get("weights") == "random"


def ranks(cell: dict[str, Any]) -> str:
    number = cell.get("ranks")
    return f"{number} rank" if number == 1 else f"{number} ranks"


def _length(cell: dict[str, Any]) -> str:
    epochs = cell.get("epochs")
    return f"{cell.get('steps')} steps" if epochs is None else f"{epochs} epochs in steps"


def _seeds(cell: dict[str, Any]) -> str:
    """What follows the seed, where that is not all."""
    vary = cell.get("vary")
    return f", seeds vary {' and '.join(vary) or 'nothing'}" if vary is not None and len(vary) < 3 else ""


def _select(cell: dict[str, Any]) -> str:
    if is_cost_only(cell):
        return f"random weights, texts of {cell.get('max_length')} tokens: costs only"
    patience = cell.get("patience")
    stopping = f", ends after {patience} evaluations without a gain" if patience else ""
    return str(cell.get("select")).replace("_", " ") + stopping


def _execution(cell: dict[str, Any]) -> str:
    """How the layers are run, where it is not the usual way."""
    attention = cell.get("attention", "sdpa")
    named = "" if attention == "sdpa" else f", {attention.replace('_', ' ')} attention"
    return named + (", compiled" if cell.get("compile") else "")


def _protocol(record: Record) -> str:
    """The recipe that the cells follow; where a method of theirs departs is beside the method."""
    protocol = record.cell.get("protocol")
    return f", protocol {protocol}" if protocol else ""


def _landscape(settings: dict[str, Any] | None) -> str:
    if not settings:
        return ""
    weights = f", of weights {settings.get('weights_radius')}" if settings.get("weights") else ""
    size = f"{settings.get('grid')} x {settings.get('grid')} points, at most {settings.get('examples')} examples"
    return f", landscape of radius {settings.get('radius')}{weights}: {size}"
