"""The record of a cell that is not run because it cannot fit."""

from __future__ import annotations

from bench.checks.plan.plan import Entry
from bench.records.record import Failure, Record


def does_not_fit(entry: Entry, budget: int) -> Record:
    """`budget`: bytes of a device that a cell may have."""
    cell, predicted = entry.cell, entry.predicted
    assert predicted is not None, "what could not be run dry is run"
    phase = max(predicted.device, key=lambda name: sum(predicted.device[name].values()))
    needed = predicted.peak_bytes
    failure = Failure(
        phase=phase,
        rank=None,
        host=None,
        exception=f"not run: a dry run needed {needed / 2**30:.2f} GiB of {budget / 2**30:.2f} GiB on a rank",
        bytes_asked=needed,
        bytes_free=budget,
    )
    return cell.without_result("predicted_out_of_memory", failure, predicted=predicted)
