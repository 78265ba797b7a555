"""What follows from records: a cell that ran out of memory would have done so with a larger micro-batch, too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench import files, records
from bench.cells import Cell, identity_json
from bench.records import Failure, Record

FREE = ("micro_batch_size", "batch_size")  # what may differ; another seed may have shorter texts


def inferred_out_of_memory(cells: Iterable[Cell], results: Path, since: str) -> list[Record]:
    """Records of those of `cells` for which one in `results` is a witness; `since`: when this run started."""
    by_rest: dict[str, list[Cell]] = {}
    for cell in cells:
        by_rest.setdefault(_rest(cell.content()), []).append(cell)
    made: dict[str, Record] = {}
    for witness in _witnesses(results):
        for cell in by_rest.get(_rest(witness.cell), []) if witness.started >= since else []:
            accumulated = witness.cell["batch_size"] > witness.cell["ranks"] * _micro(witness)
            if cell.micro > _micro(witness) and (cell.accumulation > 1 or not accumulated):
                made.setdefault(cell.name, _inferred(cell, witness))
    return list(made.values())


def _witnesses(results: Path) -> Iterator[Record]:
    """Most records are none, and are not parsed."""
    for file in sorted(records.folder(results).glob("*.json")):
        with contextlib.suppress(ValueError, OSError):  # no record: the board names it
            content = files.read(file, records.LIMIT)
            if b'"out_of_memory"' in content and (record := records.parse(content)).status == "out_of_memory":
                yield record


def _rest(content: dict[str, object]) -> str:
    return identity_json({name: value for name, value in content.items() if name not in FREE})


def _micro(record: Record) -> int:
    cell = record.cell
    return cell["micro_batch_size"] or cell["batch_size"] // cell["ranks"]


def _inferred(cell: Cell, witness: Record) -> Record:
    why = f"not run: ran out of memory with a micro-batch of {_micro(witness)}, here {cell.micro}"
    seen = witness.failure or Failure(phase="train", rank=None, host=None, exception="")
    source = seen.inferred_from or witness.name
    failure = seen.model_copy(update={"exception": why, "inferred_from": source, "step": None, "log": ()})
    return cell.without_result("out_of_memory", failure)
