"""Matrices run by the real deepspeed launcher in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models import tiny
from runs import STAGES, bench, by_name, in_training, running, started, wait_for, workers
from tables import TWO_RATES

from bench import records, toy
from bench.hostfile import read_hostfile
from bench.records import Record
from bench.settings import InputError
from bench.stack.families import build
from bench.worker import is_echo, status_of


@pytest.mark.timeout(1200)
def test_ranks_and_stages_give_the_same_losses(write_matrix, tmp_path: Path) -> None:
    """Each cell on 1 and 2 ranks under ZeRO 0-3: losses within 1e-4, the same answers, one warm group per size."""
    file = write_matrix(
        {
            "method": [
                {"kind": "full", "recipe": {"learning_rate": 1e-3}},
                {"kind": "late_prompt", "depth": 1, "bottleneck": 8},
                {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}},
            ],
            "regularizer": ["none", {"kind": "noise", "sigma": 0.1}, {"kind": "attack", "depth": 1}],
            "zero": STAGES,
            "ranks": [1, 2],
            "steps": 4,
            "evaluate_every": 2,
            "micro_batch_size": 4,  # one rank accumulates two passes, two ranks do not
        },
        exclude=[
            {"method": "full", "regularizer": "noise"},
            {"method": "late_prompt", "regularizer": ["none", "attack"]},
            {"method": "peft", "regularizer": ["noise", "attack"]},
        ],
        include=[
            {"precision": "bf16", "regularizer": "attack", "zero": STAGES, "ranks": 2, "steps": 4},
            {
                "method": {"kind": "prompt_tuning", "length": 3},
                "regularizer": [
                    {"kind": "attack", "algorithm": "freelb"},  # several passes of each accumulated one
                    {"kind": "attack", "space": "text", "cosine": -1.0},  # over two epochs
                ],
                "zero": STAGES,
                "ranks": [1, 2],
                "steps": 4,
                "evaluate_every": 2,
                "micro_batch_size": 4,
            },
        ],
    )
    results = tmp_path / "results"
    done = bench("run", file, "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in by_name(results).values():
        groups.setdefault((record.labels.method, record.labels.regularizer, record.cell["precision"]), []).append(
            record
        )
    in_bf16 = groups.pop(("full", "attack", "bf16"))
    assert len(in_bf16) == 4 and all(record.status == "ok" for record in in_bf16)
    assert len(groups) == 6
    for key, same in groups.items():
        assert len(same) == 8
        curves = [[point.train_loss for point in r.quality.curve] for r in same if r.quality]
        spread = max(max(column) - min(column) for column in zip(*curves, strict=True))
        assert spread < 1e-4, (key, curves)
        assert curves[0][-1] != curves[0][0], "it trained"
        assert len({r.quality.sample for r in same if r.quality}) == 1
    assert len(list(results.glob(".run/*/group-*"))) == 2
    assert_measured(by_name(results).values())


@pytest.mark.timeout(600)  # DeepSpeed's AdamW is compiled on first use
def test_offloads_give_the_same_losses(write_matrix, tmp_path: Path) -> None:
    """Under ZeRO-2 and ZeRO-3, whether the optimizer's state lies on the CPU or not; ZeRO++ says what it lacks."""
    methods = [{"kind": "full", "recipe": {"learning_rate": 1e-2}}, {"kind": "prompt_tuning", "length": 3}, TWO_RATES]
    zero = ["zero2", "zero2_offload", "zero3", "zero3_offload"]
    file = write_matrix(
        {"method": methods, "zero": zero, "ranks": 2, "steps": 4, "evaluate_every": 2},
        include=[{"zero": "zeropp", "ranks": 2}],
    )
    done = bench("run", file, "--results", tmp_path / "results")
    made = by_name(tmp_path / "results").values()
    (plus,) = [record for record in made if record.labels.zero == "zeropp"]
    assert plus.status == "unsupported" and "need CUDA kernels" in plus.failure.exception, plus.failure
    assert done.returncode == 1 and "12 ok, 1 unsupported" in done.stdout, done.stdout + done.stderr
    for method in ("full", "prompt_tuning length=3", "p_tuning length=3 tune_backbone=True"):
        same = [record for record in made if record.labels.method == method and record.quality]
        curves = [[point.train_loss for point in record.quality.curve] for record in same]
        assert len(curves) == 4 and curves[0][-1] != curves[0][0], curves
        assert max(max(column) - min(column) for column in zip(*curves, strict=True)) < 1e-5, (method, curves)


def test_every_family_trains_from_a_folder_under_zero3(write_matrix, tmp_path: Path) -> None:
    """From its checkpoint through the launcher: templates, partitioned loading, and prefixes in its attention."""
    folders = []
    for family in ("albert", "deberta", "opt", "gemma", "t5"):
        model = tiny(family)
        model.save_pretrained(tmp_path / family)
        toy.tokenizer("toy-encoder" if build(model).form == "masked" else "toy-decoder").save_pretrained(
            tmp_path / family
        )
        folders.append({"path": str(tmp_path / family)})
    methods = [{"kind": "full", "recipe": {"learning_rate": 1e-2}}, {"kind": "prefix_tuning", "length": 3}]
    file = write_matrix({"backbone": folders, "method": methods, "zero": "zero3", "ranks": 2, "steps": 4})
    done = bench("run", file, "--results", tmp_path / "results")
    assert done.returncode == 0, done.stdout + done.stderr
    made = by_name(tmp_path / "results").values()
    assert len(made) == 10 and all(record.status == "ok" for record in made)
    for record in made:
        losses = [point.train_loss for point in record.quality.curve]
        assert record.labels.method != "full" or losses[-1] < losses[0], (record.name, losses)


def assert_measured(made) -> None:
    """What every finished record has to say about cost and memory."""
    for record in made:
        cost, ranks = record.cost, record.cell["ranks"]
        assert cost.tokens_per_second > cost.samples_per_second > 0
        assert cost.measured_steps == 2, "4 steps, less one of warm-up and the one that memory is followed in"
        assert cost.step_milliseconds.p50 <= cost.step_milliseconds.p90 <= cost.step_milliseconds.p99
        assert {"load", "setup", "train", "evaluate"} <= cost.seconds.keys()
        width = {"fp32": 4, "bf16": 2}[record.cell["precision"]]
        assert cost.checkpoint_bytes == width * cost.trainable_parameters
        assert 0 < cost.trainable_parameters <= cost.total_parameters
        assert cost.flops > 0 and cost.mfu is None and cost.joules is None
        assert sorted((m.rank, m.phase) for m in record.memory) == [
            (rank, phase) for rank in range(ranks) for phase in ("evaluate", "setup", "train")
        ]
        whole = width * cost.total_parameters
        for row in record.memory:
            assert row.peak_allocated_bytes == sum(row.owners.values())
            # ZeRO-3 holds the rank's shard, and what it has gathered of the rest at that moment
            least, most = (whole / ranks, whole / ranks + whole) if record.labels.zero == "zero3" else (whole, whole)
            assert 0.95 * least < row.owners["parameters"] < 1.05 * most + 4096, (record.name, row.owners)
        assert record.environment.launcher == "deepspeed" and record.environment.versions["torch"] == torch.__version__


@pytest.mark.timeout(400)
def test_a_killed_rank_costs_one_cell(write_matrix, tmp_path: Path) -> None:
    """kill -9 in the middle: that cell has a failure record, all others finish."""
    file, results = write_matrix({"ranks": 2, "seed": [0, 1, 2], "steps": 300}), tmp_path / "results"
    with started(file, results) as process:
        wait_for(lambda: in_training(results) and len(records.recorded(results)) == 1)
        victim, phase, _ = running(results)
        workers(results)[1].send_signal(signal.SIGKILL)
        output, _ = process.communicate(timeout=200)
    assert process.returncode == 1, output
    made = by_name(results)
    assert sorted(record.status for record in made.values()) == ["failed", "ok", "ok"]
    failure = made[victim].failure
    assert failure is not None and failure.phase == phase and failure.log
    assert failure.exception == "rank 1 on localhost ended without a record: ended by SIGKILL" and failure.rank == 1
    assert "failed: rank 1 on localhost ended without a record" in output and "## Cells that did not finish" in output
    assert not workers(results)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_all_ranks_and_the_next_run_continues(stop, write_matrix, tmp_path: Path) -> None:
    file, results = write_matrix({"ranks": 2, "seed": [0, 1, 2], "steps": 60}), tmp_path / "results"
    with started(file, results) as process:
        wait_for(lambda: len(records.recorded(results)) == 1)
        process.send_signal(stop)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130 and "finished cells keep their records" in output, output
        assert not workers(results)
    kept = by_name(results)
    assert 1 <= len(kept) < 3
    assert bench("run", file, "--results", results).returncode == 0
    made = by_name(results)
    assert len(made) == 3 and {name: made[name] for name in kept} == kept
    board = (results / "leaderboard.md").read_bytes()
    again = bench("run", file, "--results", results)
    assert again.returncode == 0 and "3 cells, 0 to run" in again.stdout
    assert (results / "leaderboard.md").read_bytes() == board and by_name(results) == made


@pytest.mark.timeout(400)
def test_a_failure_ends_one_cell_and_can_be_retried(write_matrix, tmp_path: Path) -> None:
    """A loss that is not finite is `diverged` with its step; the group starts anew for the cells behind it."""
    recipes = [{"learning_rate": rate, "clip": 1e30} for rate in (1e30, 1e-3)]
    file = write_matrix({"method": [{"kind": "full", "recipe": recipe} for recipe in recipes], "steps": 4})
    results = tmp_path / "results"
    assert bench("run", file, "--results", results).returncode == 1
    by_rate = {r.cell["method"]["recipe"]["learning_rate"]: r for r in by_name(results).values()}
    bad, good = by_rate[1e30], by_rate[1e-3]
    assert bad.status == "diverged" and good.status == "ok"
    assert bad.failure is not None and bad.failure.step in (2, 3) and bad.failure.rank == 0
    assert bench("run", file, "--results", results).returncode == 1, "a failure is a record: it is not run again"
    assert by_name(results)[bad.name] == bad
    assert bench("run", file, "--results", results, "--retry", "diverged").returncode == 1
    assert by_name(results)[bad.name].started > bad.started and by_name(results)[good.name] == good


def test_processes_that_cannot_start_are_reported_with_their_log(write_matrix, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("no-such-host.invalid slots=1\n")
    done = bench("run", write_matrix(), "--results", tmp_path / "r", "--hostfile", hostfile)
    assert done.returncode == 1 and "no host is left" in done.stdout
    assert "no-such-host.invalid is set aside: " in done.stdout and not done.stderr
    assert not records.recorded(tmp_path / "r")


@pytest.mark.timeout(200)
def test_what_is_saved_is_what_was_trained_on_every_stage(checkpoint: Path, tmp_path: Path) -> None:
    """State, load and save of the trainables on two ranks; see zero_script.py."""
    script = Path(__file__).with_name("zero_script.py")
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "2", "--master_port", "29671"]
    done = subprocess.run(
        [*command, str(script), str(checkpoint), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parent.parent)},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (tmp_path / "checked").read_text().split() == STAGES


def test_hostfile(tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("# comment\nnode1 slots=4\n\nnode2 slots=4  # more\n")
    assert read_hostfile(hostfile) == {"node1": 4, "node2": 4}
    for line in ("node1", "node1 slots=x", "node1 slot=4", "a slots=1\na slots=2"):
        hostfile.write_text(line)
        with pytest.raises(InputError, match=r"hosts: line \d: found .*expected `host slots=n`"):
            read_hostfile(hostfile)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB."), "out_of_memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            "out_of_memory",
        ),
        (MemoryError(), "out_of_memory"),
        (OSError(12, "Cannot allocate memory"), "out_of_memory"),
        (torch.distributed.DistBackendError("Last error: Cuda failure 2 'out of memory'"), "out_of_memory"),
        (RuntimeError("shapes cannot be multiplied"), "failed"),
    ],
)
def test_status_of_an_exception(error: Exception, status: str) -> None:
    assert status_of(error) == status
    assert not is_echo(error), "no other rank tells it"
