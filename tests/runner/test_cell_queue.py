"""In which order the cells of a run wait."""

from __future__ import annotations

from pathlib import Path

from bench.cluster.leases import Leases
from bench.cluster.slots import SlotRequest
from bench.cluster.timeouts import Timeouts
from bench.data import tasks
from bench.runner.cell_queue import CellQueue
from bench.runner.launch import Launch


def test_long_cells_come_first_and_small_micro_batches_before_large_ones(expand, tmp_path: Path) -> None:
    """Beside one another what shares data and weights: a group takes these as long as there are any."""
    cells = expand(
        {
            "task": ["toy-foreign-0", "toy-foreign-1"],
            "method": {"kind": "prompt_tuning", "length": 2},
            "steps": [6, 600],
            "micro_batch_size": [8, 2],
        },
        exclude=[{"task": "toy-foreign-0", "steps": 600}],
    )
    with Leases(tmp_path, tmp_path / ".run" / "one", Timeouts()) as leases:
        waiting = CellQueue(cells, Launch(tmp_path, worker="none"), leases, lambda event: None)
        (request,) = waiting.requests
        taken = [waiting.take(request) for _ in cells]
        assert waiting.take(request) is None and not waiting
    assert request == SlotRequest(1, exclusive=True), "without a hostfile and a GPU a group has the machine"
    order = [(tasks.label(cell.task), cell.micro, cell.steps) for cell in taken if cell]
    long = [("toy-foreign-1", 2, 600), ("toy-foreign-1", 2, 6), ("toy-foreign-1", 8, 600), ("toy-foreign-1", 8, 6)]
    assert order == [*long, ("toy-foreign-0", 2, 6), ("toy-foreign-0", 8, 6)]
