"""Dry launch: what it says of memory, held against real runs, and against arithmetic where they would be too large."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from matrices import defaults
from runs import bench, by_name, call
from sample_records import record
from tables import TWO_RATES

from bench import board
from bench.checks.plan.fake_execution import SMALL, Hollow
from bench.checks.plan.fit import Seen
from bench.checks.plan.probes import elsewhere, probe, worlds
from bench.matrix import matrix
from bench.models.backbones import BACKBONES
from bench.records.record import OWNERS, Failure, Record
from bench.runner import oom_inference

GIB = 2**30


# running without computing


def test_nothing_large_is_computed_and_every_size_is_right() -> None:
    before = psutil.Process().memory_info().rss
    with Hollow():
        large = torch.empty(50_000, 50_000)  # 10 GB
        product = torch.nn.functional.linear(large, large).relu_()
        product.copy_(large).add_(1)
        half = product.to(torch.bfloat16)
        one, several = half.sum(), half.max(dim=1)
    assert product.shape == (50_000, 50_000) and product.untyped_storage().nbytes() == 4 * 50_000**2
    assert half.untyped_storage().nbytes() == 2 * 50_000**2
    assert one.item() == 0 and several.values.shape == several.indices.shape == (50_000,)
    assert psutil.Process().memory_info().rss - before < 2**28


def test_what_control_flow_depends_on_is_computed() -> None:
    with Hollow():
        mask = torch.tensor([[True, True], [True, False]])
        assert not mask.all() and mask.sum(1).tolist() == [2, 1]
        assert torch.arange(5).cumsum(0).tolist() == [0, 1, 3, 6, 10]
        assert torch.zeros(1000, 1000).isfinite().all().item() in (True, False)
        assert not torch.zeros(()).isinf().item() and float(torch.tensor(3.0) * 2) == 6
        assert torch.zeros(10, device="meta").device.type == "meta"


def test_a_backward_runs_through() -> None:
    with Hollow():
        weight = torch.nn.Parameter(torch.empty(4096, 4096))
        states = torch.empty(512, 4096)
        (torch.nn.functional.linear(states, weight).softmax(-1) ** 2).mean().backward()
    assert weight.grad is not None and weight.grad.shape == weight.shape
    assert weight.grad.numel() > SMALL


# from few ranks to many


@pytest.mark.parametrize("ranks", [1, 8, 64, 512])
def test_the_fit_is_exact_where_bytes_are_shares_and_examples(ranks: int) -> None:
    """Two moments, of which one needs most on few ranks and the other on many."""

    def moments(n: int, examples: int) -> list[dict[str, int]]:
        start = {"parameters": 1000, "activations": 300 * examples, "gradients": 0}
        end = {"parameters": 1000, "activations": 0, "gradients": 64_000 // n}
        return [{owner: moment.get(owner, 0) for owner in OWNERS} for moment in (start, end)]

    seen = Seen(4, 8, moments(8, 4), moments(8, 8), 16, moments(16, 4))
    for examples in (1, 4, 64):
        expected = max(moments(ranks, examples), key=lambda moment: sum(moment.values()))
        assert seen.peak(ranks, examples) == expected
    budget = 1000 + 300 * 77 + 150
    fits = 77 if 64_000 / ranks <= 300 * 77 + 150 else 0
    assert seen.most_examples(ranks, budget) == fits
    assert seen.most_examples(ranks, budget, frozenset(["gradients"])) == 77


def test_cells_that_need_the_same_are_run_once(write_matrix) -> None:
    cells = matrix.load(
        str(write_matrix({"seed": [0, 1], "ranks": [2, 32, 512], "batch_size": 2048, "micro_batch_size": 2}))
    )
    made = {(probe(cell, 20, n).name, n) for cell in cells.expand() for n in worlds(cell.ranks)}
    assert sorted(n for _, n in made) == [2, 8, 16]


def test_what_is_offloaded_is_not_on_the_device(write_matrix) -> None:
    names = ["zero2", "zero2_offload", "zero3_offload"]
    cells = matrix.load(str(write_matrix({"zero": names}))).expand()
    assert [sorted(elsewhere(cell.zero)) for cell in cells] == [
        [],
        ["offloaded gradients", "optimizer_state"],
        ["offloaded gradients", "optimizer_state", "parameters"],
    ]


# the command


def plan(*arguments: str | Path) -> list[dict[str, Any]]:
    done = call("plan", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PREDICTED_METHODS = [
    "full",
    {"kind": "prompt_tuning", "length": 4},
    {"kind": "late_prompt", "depth": 2},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 8}},
    TWO_RATES,
]


ZERO_OF = ["zero3", "zero1", "zero2", "zero0", "zero3"]  # for each of them in the default tier


def test_cells_that_cannot_fit_are_not_run_and_their_predictions_are_right(checkpoint, tmp_path, ranks) -> None:
    """`bench run --skip-oom` of a cell for each method; then they run, and the ledger of the CPU measures them."""
    (first, *others) = [
        {"method": method, "zero": zero, "ranks": 2} for method, zero in zip(PREDICTED_METHODS, ZERO_OF, strict=True)
    ]
    axes = {key: [value] for key, value in first.items()}
    file, results = tmp_path / "matrix.yaml", tmp_path / "results"
    file.write_text(json.dumps({"defaults": defaults(checkpoint), "axes": axes, "include": others}))
    done = call("run", file, "--results", results, "--skip-oom", "--gpu-memory", "10kB", "--reserve", "0MiB")
    assert done.returncode == 1, done.stdout + done.stderr
    skipped = by_name(results)
    assert len(skipped) == 5 and {one.status for one in skipped.values()} == {"predicted_out_of_memory"}
    for one in skipped.values():
        assert one.failure.bytes_asked == one.predicted.peak_bytes > one.failure.bytes_free == 10_000
    assert not list((results / ".run").glob("*/group-*")), "no process was started"

    made = ranks.serve(file, predicted={name: one.predicted for name, one in skipped.items()})
    assert_right(made.values(), 5)
    assert "predicted / measured" in board.markdown(list(made.values()))


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_every_prediction_is_within_ten_percent_of_what_is_measured(write_matrix, tmp_path) -> None:
    """For each method and stage on two ranks and on one; `--predict` puts both into one record."""
    axes = {"method": PREDICTED_METHODS, "zero": ["zero0", "zero1", "zero2", "zero3"], "ranks": [1, 2]}
    # on one rank the stages between them have nothing to divide
    file, results = write_matrix(axes, exclude=[{"ranks": 1, "zero": ["zero1", "zero2"]}]), tmp_path / "results"
    done = bench("run", file, "--results", results, "--predict")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_right(by_name(results).values(), 30)
    assert "predicted / measured" in (results / "leaderboard.md").read_text()


def assert_right(made: Collection[Record], count: int) -> None:
    assert len(made) == count
    for one in made:
        assert one.status == "ok" and one.predicted is not None, one.name
        measured = max(row.peak_allocated_bytes for row in one.memory if row.phase == "train")
        ratio = sum(one.predicted.device["train"].values()) / measured
        assert 0.9 < ratio < 1.1, (one.name, ratio, one.predicted, one.memory)


COSTS = {"backbone": "llama-3-8b", "weights": "random", "task": "random-tokens", "regime": "full", "precision": "bf16"}


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_states_of_a_large_model_are_the_known_ones(write_matrix) -> None:
    """8.03 billion parameters on 512 ranks: 2 bytes a weight, and 12 of optimizer a trained one."""
    axes = {key: [value] for key, value in COSTS.items()} | {
        "max_length": [64],
        "batch_size": [1],
        "zero": ["zero2", "zero3"],
    }
    zero2, zero3 = plan(write_matrix(axes), "--world-size", 512, "--gpu-memory", "80GiB")
    total = 8_030_261_248
    assert zero2["predicted"]["device"]["train"]["parameters"] == pytest.approx(2 * total, rel=0.001)
    assert zero3["predicted"]["device"]["train"]["parameters"] == pytest.approx(2 * total / 512, rel=0.02)
    for entry in (zero2, zero3):
        assert entry["ranks"] == 512 and entry["error"] is None
        assert entry["predicted"]["device"]["train"]["optimizer_state"] == pytest.approx(12 * total / 512, rel=0.02)
    assert zero2["fits"] and zero2["cheapest_zero"] == zero3["cheapest_zero"] == "zero2"
    assert zero2["largest_micro_batch"] > 50 and 15 < zero2["peak_bytes"] / GIB < 40


def test_plan_as_a_table_and_what_it_says_of_wrong_sizes(write_matrix) -> None:
    file = write_matrix({"method": ["full", "bitfit"], "zero": ["zero2", "zero3"]})
    done = call("plan", file, "--gpu-memory", "1GiB", "--reserve", "1000MiB")
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert len(rows) == 4 and "largest micro" in head and all("zero2" in row for row in rows)
    for arguments, message in (
        (["plan", file, "--gpu-memory", "much"], "--gpu-memory: found 'much', expected a size as 80GiB"),
        (
            ["plan", file, "--gpu-memory", "1GiB"],
            "--reserve: found 2GiB, expected less than the 1073741824 bytes",
        ),
        (["run", file, "--gpu-memory", "1GiB"], "--gpu-memory: expected --skip-oom with it"),
        (["run", file, "--skip-oom"], "--gpu-memory: expected a size as 80GiB, since there is no GPU here to ask"),
    ):
        wrong = call(*arguments)
        assert wrong.returncode == 2 and message in wrong.stderr and "Traceback" not in wrong.stderr, wrong.stderr


def test_out_of_memory_is_inferred_for_larger_micro_batches_only(write_matrix) -> None:
    axes = {"micro_batch_size": [1, 2, 4, 8], "seed": [0, 1], "method": ["full", "bitfit"]}
    cells = matrix.load(str(write_matrix(axes))).expand()
    witness = next(cell for cell in cells if cell.micro == 2 and cell.method.kind == "full")
    failure = Failure(phase="train", rank=1, host="a", exception="no memory", bytes_asked=5, bytes_free=4)
    base = record().model_copy(update={"status": "out_of_memory", "failure": failure, "quality": None})
    found = {"name": witness.name, "cell": witness.content(), "labels": witness.labels()}
    shown = base.model_copy(update=found)
    left = [cell for cell in cells if cell.name != witness.name]
    inferred = {one.name: one for one in oom_inference.inferred_out_of_memory(left, shown)}
    expected = {
        cell.name
        for cell in left
        if cell.micro > 2 and cell.method.kind == "full" and cell.seed == witness.seed and cell.accumulation > 1
    }
    assert inferred.keys() == expected and len(expected) == 1, "what does not accumulate may need less"
    for one in inferred.values():
        assert one.status == "out_of_memory" and one.failure.inferred_from == witness.name
        assert one.failure.bytes_asked == 5 and "micro-batch of 2" in one.failure.exception


def test_known_shapes_can_be_planned_without_a_download() -> None:
    script = "import sys, bench.checks.plan.predict; assert 'deepspeed' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"llama-3-70b", "bert-large", "roberta-large"} <= {one.name for one in BACKBONES.values() if one.shaped}
