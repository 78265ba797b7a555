"""`bench run` as a process: what it says and leaves, ranks that are killed, an interrupt, and the run after it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import light_run
import pytest
import torch
from finished import Finished
from matrices import defaults
from runs import bench, by_name, call, in_training, running, started, wait_for, workers

from bench.cluster.hostfile import read_hostfile
from bench.core.settings import InputError
from bench.records import store
from bench.records.record import Record
from bench.training.worker import is_echo, status_of


def test_a_failure_ends_one_cell_and_the_group_starts_again_for_the_cells_behind_it(finished: Finished) -> None:
    said = finished.done.stdout
    assert finished.done.returncode == 1, said + finished.done.stderr
    assert said.rstrip().splitlines()[-2] == "1 failed, 6 ok" and "## Cells that did not finish" in said, said
    assert {name: one.status for name, one in finished.made.items() if one.status != "ok"} == {
        finished.one(task="leaks").name: "failed"
    }
    assert finished.one(task="leaks").failure.rank == 0 and finished.one(task="leaks").failure.phase == "load"
    # the failed cell is the first one; two groups for what can be run before the choice on dev, and one for the choice
    assert len(list(finished.results.glob(".run/*/group-*"))) == 3


def test_the_next_run_finds_everything_done(finished: Finished) -> None:
    again = finished.again
    assert again.returncode == 1 and "6 cells, 0 to run" in again.stdout, "a failure is a record: it is not run again"
    assert by_name(finished.results) == finished.made
    boards = {one.name: one.read_bytes() for one in finished.results.glob("leaderboard.*")}
    assert boards == finished.boards and len(boards) == 4


def test_a_record_says_where_its_cell_ran(finished: Finished) -> None:
    where = finished.one(task="mine").environment
    assert where is not None and where.launcher == "deepspeed" and where.versions["torch"] == torch.__version__
    assert where.alone is True and where.threads == 1 and len(where.hosts) == 1


@dataclass(frozen=True)
class Stop:
    """How a run is stopped. `light`: its ranks compute nothing (light_run.py)."""

    signal: signal.Signals
    light: bool


@dataclass
class Interrupted:
    """A run of three cells on two ranks. Rank 1 is killed in the second cell, the run is stopped in the third."""

    file: Path
    results: Path
    ranks: dict[str, str]  # `module` and variables for `bench`
    victim: str  # the second cell
    phase: str  # in which it was killed
    output: str
    status: int | None
    left: int  # ranks that were there when the run had ended
    kept: dict[str, Record]


STOPS = [Stop(signal.SIGINT, light=True), pytest.param(Stop(signal.SIGTERM, light=False), marks=pytest.mark.full)]


@pytest.fixture(scope="module", params=STOPS, ids=["SIGINT", "SIGTERM"])
def interrupted(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Interrupted]:
    how: Stop = request.param
    folder = tmp_path_factory.mktemp("interrupted")
    steps = 800 if how.light else 300  # a few seconds
    long = {"ranks": 2, "steps": steps, "evaluate_every": steps}
    content = {"defaults": defaults(checkpoint) | long, "axes": {"seed": [0, 1, 2]}}
    file, results = folder / "matrix.yaml", folder / "results"
    file.write_text(json.dumps(content))
    ranks = light_run.instead(file) if how.light else {}
    with started(file, results, **ranks) as process:
        train_behind(process, results, 1)
        victim, phase, _ = running(results)
        workers(results)[1].send_signal(signal.SIGKILL)
        train_behind(process, results, 2)
        process.send_signal(how.signal)
        output, _ = process.communicate(timeout=200)
        left = len(workers(results))
    yield Interrupted(file, results, ranks, victim, phase, output, process.returncode, left, by_name(results))


def train_behind(run: subprocess.Popen[str], results: Path, count: int) -> None:
    """Until a cell trains behind so many that have a record. AssertionError when the run ends before."""
    wait_for(lambda: run.poll() is not None or (len(store.recorded(results)) == count and in_training(results)))
    assert run.poll() is None, run.communicate()[0]


@pytest.mark.timeout(1800)
def test_a_killed_rank_costs_one_cell(interrupted: Interrupted) -> None:
    """kill -9 in the middle: that cell has a failure record, and another group goes on behind it."""
    failure = interrupted.kept[interrupted.victim].failure
    assert interrupted.kept[interrupted.victim].status == "failed", interrupted.output
    assert failure is not None and failure.phase == interrupted.phase and failure.log
    assert failure.exception == "rank 1 on localhost ended without a record: ended by SIGKILL" and failure.rank == 1
    assert "failed: rank 1 on localhost ended without a record" in interrupted.output
    assert len(list(interrupted.results.glob(".run/*/group-*"))) == 2


@pytest.mark.timeout(1800)
def test_an_interrupt_stops_all_ranks(interrupted: Interrupted) -> None:
    assert interrupted.status == 130, interrupted.output
    assert "finished cells keep their records" in interrupted.output and not interrupted.left
    assert sorted(one.status for one in interrupted.kept.values()) == ["failed", "ok"]


@pytest.mark.timeout(1800)
def test_the_run_after_an_interrupt_continues_and_retries_what_it_is_asked_to(interrupted: Interrupted) -> None:
    words = ["run", interrupted.file, "--results", interrupted.results, "--retry", "failed"]
    done = bench(*words, **interrupted.ranks)
    made, kept = by_name(interrupted.results), interrupted.kept
    assert done.returncode == 0 and "3 cells, 2 to run" in done.stdout and "3 ok" in done.stdout, done.stdout
    assert len(made) == 3 and all(one.status == "ok" for one in made.values())
    again = made.pop(interrupted.victim)
    assert again.started > kept[interrupted.victim].started
    assert {name: made[name] for name in kept.keys() & made.keys()} == {
        name: one for name, one in kept.items() if one.status == "ok"
    }


def test_processes_that_cannot_start_are_reported_with_their_log(write_matrix, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("no-such-host.invalid slots=1\n")
    done = call("run", write_matrix(), "--results", tmp_path / "r", "--hostfile", hostfile)
    assert done.returncode == 1 and "no host is left" in done.stdout
    assert "no-such-host.invalid is set aside: " in done.stdout and not done.stderr
    assert not store.recorded(tmp_path / "r")


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
