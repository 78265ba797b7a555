"""Guards as they are, each with a rank that is a small script: no rank outlives its run, and how it ended is told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import pytest
from runs import wait_for

from bench.cluster import heartbeat, rank_supervisor
from bench.cluster.heartbeat import Beat, Exit
from bench.cluster.rank_supervisor import LAUNCHER_IS_GONE, RUN_IS_GONE
from bench.cluster.timeouts import Timeouts

CLOCKS = Timeouts().scaled(1 / 20)
RANK = """
import os, subprocess, sys, time
from bench.cluster.heartbeat import pulse
if "FAILS" in os.environ:
    sys.exit(int(os.environ["FAILS"]))
started = subprocess.Popen(["sleep", "1000"])
pulse.report(cell="a", phase=f"{os.getpid()} {started.pid}", step=3, steps=9)
for _ in range(4):
    pulse.count_progress()
time.sleep(1000)
"""
RUN = """
import json, time
from dataclasses import asdict
from bench.cluster.run_identity import RunIdentity
print(json.dumps(asdict(RunIdentity.here("run"))), flush=True)
time.sleep(1000)
"""


@dataclass
class Guarded:
    """A guard, what started it, and what it says of its rank."""

    work: Path
    lease: Path
    launcher: subprocess.Popen[bytes]
    run: subprocess.Popen[str]

    def beat(self) -> Beat | None:
        return next(iter(heartbeat.read(self.work, 1)), None)

    def inside(self) -> list[psutil.Process]:
        """The rank and what it has started."""
        wait_for(lambda: (beat := self.beat()) and beat.phase)
        beat = self.beat()
        assert beat
        return [psutil.Process(int(word)) for word in beat.phase.split()]

    def guard(self) -> psutil.Process:
        (found,) = psutil.Process(self.launcher.pid).children()
        return found

    def ended(self) -> Exit:
        wait_for(lambda: (beat := self.beat()) and beat.state == heartbeat.ENDED)
        beat = self.beat()
        assert beat
        (found,) = heartbeat.read_exits(self.work, [beat])
        return found


@contextlib.contextmanager
def guarded(folder: Path, timeouts: Timeouts = CLOCKS, **variables: str) -> Iterator[Guarded]:
    """Started by a shell, as by a launcher. The lease is of a process that does nothing: it stands still."""
    (folder / "rank_script.py").write_text(RANK)
    work, lease = folder / "group", folder / "lease"
    work.mkdir()
    run = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True)
    assert run.stdout
    lease.write_text(run.stdout.readline())
    (work / "stop").touch()
    described = {"module": "rank_script", "launcher": "pdsh", "ranks": [["localhost", 0]], "alone": True}
    described |= {"slots": {"localhost": 1}, "devices": "", "variables": variables, "lease": str(lease)}
    (work / "group.json").write_text(json.dumps({**described, "timeouts": asdict(timeouts)}))
    own = {**os.environ, "RANK": "0", "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
    script = f"{sys.executable} -m bench.cluster.rank_supervisor {work} & wait $!"
    made = Guarded(work, lease, subprocess.Popen(["sh", "-c", script], env=own), run)
    try:
        yield made
    finally:
        run.kill()
        run.communicate()
        heartbeat.stop(work, "the test is over")
        made.launcher.wait(60)


def gone(several: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in several)


def test_what_a_rank_tells_and_how_it_ended_is_told(tmp_path: Path) -> None:
    with guarded(tmp_path, Timeouts(orphan=39)) as one:
        rank, started = one.inside()
        wait_for(lambda: (beat := one.beat()) and beat.progress_count == 5)
        beat = one.beat()
        assert beat and (beat.cell, beat.step, beat.steps, beat.host) == ("a", 3, 9, "localhost")
        rank.send_signal(signal.SIGSTOP)
        wait_for(lambda: (beat := one.beat()) and beat.state == psutil.STATUS_STOPPED)
        rank.send_signal(signal.SIGKILL)
        assert one.ended() == Exit(0, "localhost", -signal.SIGKILL), "by itself, without an order"
        assert one.launcher.wait(60) == 128 + signal.SIGKILL, "as a shell would say it"
        started.kill()


def test_an_exit_status_is_passed_on(tmp_path: Path) -> None:
    with guarded(tmp_path, FAILS="7") as one:
        assert one.ended() == Exit(0, "localhost", 7) and one.launcher.wait(60) == 7


def stop(one: Guarded) -> None:
    heartbeat.stop(one.work, "the run is over")


def end_owner(one: Guarded) -> None:
    """The process of the run is no more, and could not say so."""
    one.run.kill()
    one.run.wait()


ORDERS: dict[str, tuple[Callable[[Guarded], object], str]] = {
    "the run says so": (stop, "the run is over"),
    "the lease is removed": (lambda one: one.lease.unlink(), RUN_IS_GONE),
    "the lease is of a process that ended": (end_owner, RUN_IS_GONE),
    "the lease stands still": (lambda one: None, RUN_IS_GONE),
    "its launcher is killed": (lambda one: one.launcher.kill(), LAUNCHER_IS_GONE),
    "SIGTERM": (lambda one: one.guard().send_signal(signal.SIGTERM), "SIGTERM"),
}


@pytest.mark.parametrize("why", ORDERS)
def test_a_rank_ends_with_all_it_has_started_even_when_it_is_stopped(why: str, tmp_path: Path) -> None:
    happens, order = ORDERS[why]
    patient = Timeouts(**{**asdict(CLOCKS), "lease": 600, "orphan": 400})
    with guarded(tmp_path, CLOCKS if why == "the lease stands still" else patient) as one:
        inside = one.inside()
        inside[0].send_signal(signal.SIGSTOP)
        happens(one)
        assert one.ended() == Exit(0, "localhost", -signal.SIGKILL, order)
        wait_for(lambda: gone(inside))
        secret = one.work / "group.json"
        assert secret.exists() == (order != RUN_IS_GONE), "nobody else takes it away where the run is gone"


def test_a_rank_ends_with_its_guard(tmp_path: Path) -> None:
    with guarded(tmp_path) as one:
        rank, started = one.inside()
        one.guard().kill()
        wait_for(lambda: gone([rank]))
        started.kill()


def test_a_rank_goes_on_while_the_lease_is_touched(tmp_path: Path) -> None:
    with guarded(tmp_path) as one:
        inside = one.inside()
        end = time.monotonic() + 2 * CLOCKS.orphan
        while time.monotonic() < end:
            os.utime(one.lease)
            time.sleep(CLOCKS.touch / 10)
        beat = one.beat()
        assert not gone(inside) and beat and beat.state != heartbeat.ENDED
        stop(one)
        assert one.ended().order == "the run is over"


@pytest.mark.parametrize(
    ("launcher", "own", "devices", "expected"),
    [
        ("pdsh", "1,2", "4,5,6", "5,6"),  # deepspeed's launcher puts slots there: numbers within the user's
        ("pdsh", "1,2", None, "1,2"),
        ("pdsh", "1,2", "", ""),  # the user wants none to be used
        ("slurm", "4,5,6", None, "5,6"),
        ("slurm", None, None, "1,2"),
        ("openmpi", "", None, ""),
    ],
)
def test_ranks_see_the_gpus_of_their_slots(launcher: str, own: str | None, devices: str | None, expected: str) -> None:
    described = {
        "launcher": launcher,
        "ranks": [["a", 0], ["b", 1], ["b", 2]],
        "alone": False,
        "slots": {"a": 8, "b": 8},
    }
    described |= {
        "variables": {"HF_X": "sent", "HF_Y": "sent"},
        "devices": devices,
        "address": "192.0.2.1",
        "port": 20000,
    }
    told = {"RANK": "2", "SLURM_PROCID": "2", "OMPI_COMM_WORLD_RANK": "2", "HF_X": "set on the host"}
    found = rank_supervisor._variables(described, told | ({} if own is None else {"CUDA_VISIBLE_DEVICES": own}))
    assert found["CUDA_VISIBLE_DEVICES"] == expected
    assert (found["HF_X"], found["HF_Y"], found["BENCH_HOST"]) == ("set on the host", "sent", "b")
    if launcher != "pdsh":
        assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"], found["LOCAL_SIZE"]) == ("2", "1", "3", "2")
