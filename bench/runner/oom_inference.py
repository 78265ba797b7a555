"""What follows from records: a cell that ran out of memory would have done so with a larger micro-batch, too."""

from __future__ import annotations

from collections.abc import Iterable

from bench.matrix.cell import Cell, identity_json
from bench.records.record import Failure, Record

FREE = ("micro_batch_size", "batch_size")  # what may differ; another seed may have shorter texts


def inferred_out_of_memory(cells: Iterable[Cell], witness: Record) -> list[Record]:
    """Records of those of `cells` that would run out of memory, too, since `witness` did."""
    rest, micro = _rest(witness.cell), _micro(witness)
    accumulated = witness.cell["batch_size"] > witness.cell["ranks"] * micro
    larger = (cell for cell in cells if cell.micro > micro and cell.seed == witness.cell["seed"])  # most are not
    alike = (cell for cell in larger if cell.accumulation > 1 or not accumulated)
    return [_inferred(cell, witness) for cell in alike if _rest(cell.content()) == rest]


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
