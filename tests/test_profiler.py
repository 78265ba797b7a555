"""The instruments, on clocks and allocations that are known."""

from __future__ import annotations

import pytest
import torch

from bench.profiler import Ledger, PhaseClock, StepClock
from bench.profiler.clock import quantiles
from bench.profiler.memory import LiveTensors, live, storages

CPU = torch.device("cpu")


class FakeClock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_window_leaves_out_warm_up_and_pauses() -> None:
    now = FakeClock()
    clock = StepClock(CPU, warmup=2, now=now)
    for step in range(6):
        with clock.step(tokens=10, samples=2):
            now.time += 5.0 if step < 2 else 1.0
        now.time += 0.5  # between steps: the loader's time counts
        if step == 3:
            clock.pause()
            now.time += 1000.0  # an evaluation
    clock.pause()
    assert clock.tokens == 40 and clock.samples == 8
    assert clock.window_seconds == pytest.approx(4 * 1.5)
    assert clock.milliseconds() == pytest.approx([1000.0] * 4)


def test_waiting_counts_in_the_window_only() -> None:
    now = FakeClock()
    clock = StepClock(CPU, warmup=1, now=now)
    for _ in range(3):
        with clock.step(tokens=1, samples=1):
            with clock.waiting():
                now.time += 2.0
            now.time += 3.0
    clock.pause()
    with clock.waiting():  # in a step that is not timed
        now.time += 50.0
    assert (clock.waited_seconds, clock.window_seconds) == (4.0, 10.0)


def test_phases_within_phases_are_taken_out() -> None:
    now = FakeClock()
    clock = PhaseClock(now)
    with clock.phase("train"):
        now.time += 3
        with clock.phase("evaluate"):
            assert clock.current == "evaluate"
            now.time += 10
        now.time += 4
    assert clock.seconds == {"evaluate": 10, "train": 7}


def test_the_phase_that_raised_stays_current() -> None:
    clock = PhaseClock(FakeClock())
    with pytest.raises(RuntimeError), clock.phase("train"), clock.phase("evaluate"):
        raise RuntimeError
    assert clock.current == "evaluate"


def test_quantiles() -> None:
    found = quantiles(list(range(1, 102)))
    assert found is not None and (found.p50, found.p90, found.p99) == (51, 91, 100)
    assert quantiles([]) is None


def test_live_tensors_finds_the_peak_and_what_dies() -> None:
    kept = torch.ones(1000)
    tracker = LiveTensors(storages([kept]))
    with tracker:
        a = torch.zeros(1000)  # 4,000 bytes
        b = a + kept  # 8,000
        view = b[:500]  # still 8,000
        del a, b  # 4,000: the view keeps b
        c = torch.zeros(500)  # 6,000
        assert tracker.current == 6000
        del view, c
        kept.add_(1)  # in place: nothing
        assert tracker.current == 0
    assert tracker.peak == 8000


def test_live_tensors_sees_what_a_backward_allocates() -> None:
    weight = torch.ones(100, 100, requires_grad=True)
    tracker = LiveTensors(storages([weight]))
    with tracker:
        product = weight * 2  # kept until the gradient is there
        product.sum().backward()
        del product
    assert weight.grad is not None
    assert tracker.current == weight.grad.untyped_storage().nbytes() == 40_000
    assert 80_000 <= tracker.peak < 81_000


def test_ledger_counts_this_cell_only_and_adds_up() -> None:
    before = torch.ones(12_345)
    ledger = Ledger(CPU, rank=3, host="here")
    module = torch.nn.Linear(50, 20)  # 1,020 values
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(2, 50)).sum().backward()
    optimizer.step()
    extra, kept = torch.ones(100), torch.ones(50_000)
    with ledger.phase("train", module, optimizer, [kept]):
        grown = torch.zeros(25_000) + 1
    (row,) = ledger.rows
    assert (row.rank, row.host, row.phase, row.peak_reserved_bytes) == (3, "here", "train", None)
    assert row.owners["parameters"] == 1020 * 4
    assert row.owners["optimizer_state"] == 2 * 1020 * 4 + 2 * 4, "two moments, and a step count per parameter"
    assert row.owners["other"] >= 1020 * 4 + extra.nbytes, "gradients and the extra tensor"
    assert row.owners["other"] < before.nbytes, "neither what was there before nor what is kept is counted"
    assert row.owners["step"] == 2 * grown.nbytes
    assert row.peak_allocated_bytes == sum(row.owners.values())
    assert row.rss_bytes and row.rss_bytes > row.peak_allocated_bytes


def test_live_counts_a_storage_once() -> None:
    tensor = torch.zeros(1000)
    views = [tensor[i:] for i in range(5)]
    found = live()
    assert found[tensor.untyped_storage()._cdata] == 4000
    assert len({view.untyped_storage()._cdata for view in views}) == 1
