"""The instruments, on clocks and allocations that are known."""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from bench.profiler import Ledger, PhaseClock, StepClock
from bench.profiler.clock import quantiles
from bench.profiler.live import LiveTensors, storages

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
    kept, ours = torch.ones(1000), torch.ones(10_000)
    tracker = LiveTensors(CPU, [([kept], "parameters"), ([kept], "other")], storages([ours], CPU))
    with tracker:
        a = torch.zeros(1000)  # 4,000 bytes beside the 4,000 of kept
        b = a + kept  # 8,000
        view = b[:500]  # still 8,000
        del a, b  # 4,000: the view keeps b
        c = torch.zeros(500)  # 6,000
        assert tracker.current == 4000 + 6000
        del view, c
        kept.add_(1)  # in place: nothing
        assert tracker.current == 4000
        del kept
        assert tracker.current == 0
    assert tracker.peak == 12_000
    assert tracker.at_peak == {"parameters": 4000, "activations": 8000}, "what two owners share is the first one's"


def test_live_tensors_sees_what_a_backward_allocates() -> None:
    weight = torch.ones(100, 100, requires_grad=True)
    tracker = LiveTensors(CPU)
    with tracker:
        product = weight * 2  # kept until the gradient is there
        product.sum().backward()
        del product
    assert weight.grad is not None
    assert tracker.current == weight.grad.untyped_storage().nbytes() == 40_000
    assert 80_000 <= tracker.peak < 81_000


@pytest.mark.parametrize("recomputed", [False, True])
def test_activations_are_what_a_backward_needs(recomputed: bool) -> None:
    """Beside what autograd itself says that it saves; where layers run again, their inputs."""
    layers = [torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh()) for _ in range(4)]
    inputs, saved = torch.ones(32, 64), dict[int, int]()

    def forward() -> torch.Tensor:
        states = inputs
        for layer in layers:
            states = checkpoint(layer, states, use_reentrant=False) if recomputed else layer(states)
        return states

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = [parameter for layer in layers for parameter in layer.parameters()]
    tracker = LiveTensors(CPU, [(weights, "parameters"), ([inputs], "other")])
    with tracker, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
        found = tracker.totals["activations"]
        result.sum().backward()
    for tensor in (*weights, inputs):
        saved.pop(tensor.untyped_storage().data_ptr(), None)
    assert found == 4 * result.nbytes, "a linear map's own result is not needed by tanh"
    if not recomputed:
        assert found == sum(saved.values())


def test_ledger_counts_this_cell_only_and_adds_up() -> None:
    before = torch.ones(12_345)
    ledger = Ledger(CPU, rank=3, host="here")
    with ledger.setup() as made:
        module = torch.nn.Linear(50, 20)  # 1,020 values
        optimizer = torch.optim.AdamW(module.parameters())
        passing = torch.ones(30_000)
        del passing
        made += [module, optimizer]
    module(torch.ones(2, 50)).sum().backward()
    optimizer.step()
    extra, kept = torch.ones(100), torch.ones(50_000)
    with ledger.step("train", module, optimizer, [kept]):
        optimizer.zero_grad()
        hidden = module(torch.ones(25_000, 50))
        (hidden**2).sum().backward()
        optimizer.step()
    setup, row = ledger.rows
    assert setup.owners["parameters"] == 1020 * 4 and setup.owners["optimizer_state"] == 0
    assert setup.peak_allocated_bytes == 1020 * 4 + 120_000, "what was there before does not count"
    assert (row.rank, row.host, row.phase, row.peak_reserved_bytes) == (3, "here", "train", None)
    assert row.owners["parameters"] == 1020 * 4
    assert row.owners["optimizer_state"] == 2 * 1020 * 4 + 2 * 4, "two moments, and a step count per parameter"
    result = 25_000 * 20 * 4
    assert row.owners["activations"] == pytest.approx(result + 25_000 * 50 * 4, rel=0.01), "the input and the result"
    assert row.owners["other"] == 3 * result + extra.nbytes < 3 * result + before.nbytes, "gradients of the square"
    assert row.peak_allocated_bytes == sum(row.owners.values())
    assert row.rss_bytes and row.rss_bytes > row.peak_allocated_bytes


def test_gradients_are_told_from_what_else_a_backward_makes() -> None:
    module = torch.nn.Linear(400, 400)
    optimizer = torch.optim.AdamW(module.parameters())
    ledger = Ledger(CPU, 0, "here")
    with ledger.setup() as made:
        made += [module, optimizer]
    with ledger.step("train", module, optimizer):
        module(torch.ones(1, 400)).sum().backward()
        optimizer.step()
    assert ledger.rows[1].owners["gradients"] == 400 * 401 * 4
