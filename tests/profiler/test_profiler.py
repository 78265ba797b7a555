"""The instruments, on clocks and allocations that are known."""

from __future__ import annotations

import re
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from bench.models.stack.operation_counter import Operations
from bench.profiler import Ledger, PhaseClock, StepClock, devices, nvml
from bench.profiler.clock import quantiles
from bench.profiler.efficiency import Efficiency, Share, efficiency
from bench.profiler.live_tensors import GRADIENT_MAKERS, ZERO3_LINEAR, LiveTensors, storages

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


def test_energy_and_operations_are_the_windows() -> None:
    now, meter = FakeClock(), FakeClock()
    clock = StepClock(CPU, warmup=1, now=now, millijoules=lambda: int(meter.time))
    for step in range(4):
        with clock.step(tokens=1, samples=1):
            clock.count(8, 10 + step)
            meter.time += 4000
        meter.time += 500
        if step == 2:
            clock.pause()
            meter.time += 1e6  # an evaluation
    clock.count(8, 99)  # outside of the steps that are measured
    clock.pause()
    assert clock.joules == pytest.approx(3 * 4.0 + 3 * 0.5)
    assert clock.batches == {(8, 11): 1, (8, 12): 1, (8, 13): 1}


def test_a_meter_that_was_silent_once_is_unknown() -> None:
    clock = StepClock(CPU, warmup=0, millijoules=iter([5, 7, None, 9]).__next__)
    for expected in (0.002, None):
        with clock.step(tokens=1, samples=1):
            pass
        clock.pause()
        assert clock.joules == expected
    assert clock.share(Operations(3, 4), "bf16") == Share(Operations(3, 4), None, None)


def test_efficiency_is_over_all_ranks() -> None:
    shares = [Share(Operations(4 * 10**12, 10**12), 30.0, 2e12), Share(Operations(6 * 10**12, 10**12), 50.0, 2e12)]
    assert efficiency(shares, steps=2, seconds=5.0) == Efficiency(flops=6e12, mfu=10 / (5 * 4), joules=40.0)
    unknown = [shares[0], Share(Operations(1), None, None)]
    found = efficiency(unknown, steps=1, seconds=1.0)
    assert found.flops is not None and found.mfu is None and found.joules is None
    assert efficiency(shares, steps=0, seconds=0.0) == Efficiency(None, None, None)


@pytest.mark.parametrize(
    ("name", "units", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA A100 80GB PCIe", "tf32", 156e12),
        ("NVIDIA A10", "bf16", 125e12),
        ("NVIDIA A10G", "bf16", None),  # not an A10
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16", None),
        ("Tesla T4", "fp16", 65e12),
        ("Tesla T4", "bf16", None),
        ("NVIDIA L40S", "fp32", 91.6e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "fp16", None),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.5e12),
        ("NVIDIA H200", "tf32", 494.5e12),
        ("AMD Instinct MI300X OAM", "bf16", 1307.4e12),
        ("Some GPU", "bf16", None),
    ],
)
def test_peaks_are_of_the_very_device(name: str, units: str, expected: float | None) -> None:
    assert devices.peak_of(name, units) == expected


def test_peaks_keep_the_order_of_precisions() -> None:
    for name, peak in devices.PEAKS.items():
        assert peak.bf16 in (None, peak.fp16) and peak.fp32 <= (peak.tf32 or peak.fp32) < peak.fp16, name
    assert devices.peak(CPU, "bf16") is None


def test_fp32_is_tf32_where_torch_may_take_it() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert devices.multiplies_in_tf32()
        torch.set_float32_matmul_precision("highest")
        assert not devices.multiplies_in_tf32()
    finally:
        torch.set_float32_matmul_precision(before)


class FakeNvml:
    """As much of pynvml as is called."""

    class NVMLError(Exception):
        pass

    def __init__(self, processes: list[tuple[int, int | None]] | None = None):
        self.processes = processes

    def nvmlInit(self) -> None:
        if self.processes is None:
            raise self.NVMLError

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if handle != "GPU-1":
            raise self.NVMLError
        return 1234

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        assert self.processes is not None
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes]


def test_nvml_tells_what_it_knows() -> None:
    found = nvml.find(FakeNvml([(7, 100), (8, 50), (7, 20)]), "1")
    assert found is not None
    assert found.millijoules() == 1234 and found.used_bytes(7) == 120
    assert found.used_bytes(9) is None, "in a container it has another number"
    hidden = nvml.find(FakeNvml([(7, None)]), "2")
    assert hidden is not None and hidden.used_bytes(7) is None and hidden.millijoules() is None


def test_without_nvml_nothing_is_known() -> None:
    assert nvml.find(FakeNvml(None), "1") is None
    assert nvml.millijoules(CPU) is None and nvml.outside_allocator_bytes(CPU) is None


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


def test_an_ignored_storage_is_ignored_while_it_lives() -> None:
    """The address of what has died goes to the next one, which counts."""
    for _ in range(20):
        ours = torch.ones(1000)
        tracker = LiveTensors(CPU, ignored=storages([ours], CPU))
        with tracker:
            del ours
            mine = torch.ones(1000)
        assert tracker.peak == mine.nbytes


def test_compiled_layers_stay_compiled_after_the_step_that_is_followed() -> None:
    runs: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        return lambda *inputs: runs.append(1) or graph.forward(*inputs)

    class Layer(torch.nn.Linear):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return super().forward(states).relu()

    layer = Layer(4, 4)
    layer.compile(backend=backend)
    optimizer = torch.optim.SGD(layer.parameters())
    ledger, inputs, counts = Ledger(CPU, 0, "here"), torch.ones(2, 4), []
    with ledger.setup() as made:
        made += [layer, optimizer]
    for number in range(4):
        with ledger.step("train", layer, optimizer) if number == 1 else nullcontext():
            layer(inputs)
        counts.append(len(runs))
    assert counts == [1, 1, 2, 3]


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


@pytest.mark.parametrize("name", GRADIENT_MAKERS)
def test_deepspeed_still_has_the_functions_by_which_gradients_are_known(name: str) -> None:
    """They are private to DeepSpeed: another version may call them something else."""
    runtime = Path(find_spec("deepspeed").submodule_search_locations[0], "runtime")
    functions = {
        found for file in runtime.rglob("*.py") for found in re.findall(r"^ *def (\w+)", file.read_text("utf-8"), re.M)
    }
    assert any(re.search(name, one) for one in functions), name
    assert Path(runtime, ZERO3_LINEAR.partition("/runtime/")[2]).is_file()
