"""`bench run` over several hosts, and what clusters do to it; README.md of this folder says what these hosts are.

Where it does not matter what ranks compute, they compute nothing (light_run.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import light_run
import psutil
import pytest
from hosts import Hosts, hosts, needs_hosts
from runs import by_name, wait_for

from bench.cluster import heartbeat
from bench.cluster.heartbeat import Beat
from bench.records.record import Record

pytestmark = [needs_hosts, pytest.mark.full, pytest.mark.timeout(900)]

TOLD: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
LONG = 20_000  # steps of a cell that is ended on its way
SHORT = 800  # steps of one that is to be seen on its way
CLOCKS = json.dumps(
    {"silence": 4, "ask_again": 1, "reach": 4, "end": 4, "beat": 0.5, "touch": 1, "orphan": 6, "lease": 12, "echo": 3}
)  # ranks start as slowly as they do, so what waits for that stays
with_mpirun = pytest.mark.skipif(not shutil.which("mpirun"), reason="no mpirun (Debian: apt-get install openmpi-bin)")
OURS = ("bench.training.worker", "light_worker", "bench.cluster.rank_supervisor", "deepspeed")


def command(file: Path, results: Path, *options: str | Path, module: str = "bench") -> list[str]:
    return [sys.executable, "-m", module, "run", *map(str, (file, "--results", results, *options))]


@contextlib.contextmanager
def started(
    them: Hosts, file: Path, results: Path, *options: str, module: str = "bench", **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """`bench run` on all hosts, from here; ended with the test."""
    line = command(file, results, "--hostfile", them.hostfile, *options, module=module)
    environment = {**them.environment, "BENCH_TIMEOUTS": CLOCKS, **variables}
    with subprocess.Popen(line, env=environment, text=True, **TOLD) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_in(run: subprocess.Popen[str], condition: Callable[[], object]) -> None:
    """While it goes on."""
    wait_for(lambda: condition() or run.poll() is not None)
    assert run.poll() is None, run.communicate()[0]


def groups(results: Path) -> list[tuple[dict[str, Any], list[Beat]]]:
    """Of the groups that are not over: what is known of each, and what its ranks told last."""
    found = []
    for file in results.glob(".run/*/*/group.json"):
        with contextlib.suppress(OSError):  # it ended just now
            group = json.loads(file.read_bytes())
            found.append((group, heartbeat.read(file.parent, len(group["ranks"]))))
    return found


def training(results: Path, host: str, steps: int) -> str:
    """The cell of so many steps that a rank on `host` trains; "" while there is none."""
    told = (beat for _, beats in groups(results) for beat in beats)
    return next((b.cell for b in told if (b.host, b.phase, b.steps) == (host, "train", steps) and b.step), "")


def ours(them: Hosts, host: str, *modules: str) -> list[psutil.Process]:
    """Processes of a run there; those of `modules` alone, where they are named."""
    found = []
    for process in them.processes(host):
        with contextlib.suppress(psutil.Error):
            if any(module in word for word in process.cmdline() for module in modules or OURS):
                found.append(process)
    return found


def losses(record: Record) -> list[float]:
    assert record.quality, record
    return [point.train_loss for point in record.quality.curve]


def hosts_of(record: Record) -> tuple[str, ...]:
    assert record.environment, record
    return record.environment.hosts


def one_of(made: dict[str, Record], **fields: Any) -> Record:
    (found,) = [record for record in made.values() if fields.items() <= record.cell.items()]
    return found


def test_cells_of_all_sizes_are_placed_and_give_the_losses_of_one_process(write_matrix, tmp_path: Path) -> None:
    file = write_matrix(
        {"ranks": [1, 2, 4], "zero": "zero3", "steps": 20, "evaluate_every": 5},
        include=[{"ranks": 1, "seed": 1, "steps": 100}],
        exclusive=[{"ranks": 1, "zero": "zero3"}],
    )
    results = tmp_path / "results"
    seen: list[list[dict[str, Any]]] = []
    with hosts(3, tmp_path / "hosts", slots=2) as them, started(them, file, results) as run:
        while run.poll() is None:
            seen.append([group for group, _ in groups(results)])
            time.sleep(0.1)
        output, _ = run.communicate()
        assert run.returncode == 0 and "4 ok" in output, output
        assert all(not ours(them, host) for host in them.addresses)
    made = by_name(results)
    curves = [losses(one_of(made, ranks=ranks, seed=0)) for ranks in (1, 2, 4)]
    spread = max(max(column) - min(column) for column in zip(*curves, strict=True))
    assert spread < 1e-4 and curves[0][0] != curves[0][-1], curves
    assert len({one_of(made, ranks=ranks, seed=0).quality.outcomes for ranks in (1, 2, 4)}) == 1
    wide = one_of(made, ranks=4)
    assert hosts_of(wide) == tuple(them.addresses[:2]) and {row.host for row in wide.memory} == set(hosts_of(wide))
    assert all(len(hosts_of(record)) == 1 for record in made.values() if record is not wide)

    taken = [[{host for host, _ in group["ranks"]} for group in together] for together in seen]
    assert any(len(set.union(*sets)) == 3 for sets in taken if sets), "all hosts at one time"
    alone = [(group, together) for together in seen for group in together if group["alone"]]
    assert alone and all(len(group["ranks"]) == 1 for group, _ in alone)
    for group, together in alone:
        others = [host for other in together if other is not group for host, _ in other["ranks"]]
        assert group["ranks"][0][0] not in others
    assert "zero3, 4 ranks" in (results / "leaderboard.md").read_text()


def test_what_ran_on_a_host_that_vanished_goes_elsewhere_or_says_so(write_matrix, tmp_path: Path) -> None:
    """One of two hosts of a cell is cut off, and the one of another cell loses power."""
    file = write_matrix(
        {"ranks": 2, "seed": [0, 1], "steps": LONG, "evaluate_every": LONG},
        include=[{"ranks": 1, "seed": 2, "steps": SHORT, "evaluate_every": SHORT}],
    )
    results = tmp_path / "results"
    with hosts(3, tmp_path / "hosts") as them, started(them, file, results) as run:
        stays, cut, off = them.addresses
        wait_in(run, lambda: training(results, cut, LONG) and training(results, off, SHORT))
        wide, narrow = training(results, cut, LONG), training(results, off, SHORT)
        them.cut(cut)
        them.power_off(off)
        output, _ = run.communicate(timeout=600)
        assert run.returncode == 1, output
        assert all(not ours(them, host) for host in (stays, cut))
    made = by_name(results)
    assert [made[name].status for name in (wide, narrow)] == ["node_lost", "ok"], output
    failure = made[wide].failure
    assert failure.host == cut and failure.phase == "train" and failure.step
    assert failure.exception == f"no answer from {cut}, and no record"
    never = next(record for record in made.values() if record.cell["ranks"] == 2 and record.name != wide)
    assert never.status == "node_lost" and never.failure.exception == "not run: needs 2 slots, 1 are left of 3"
    assert hosts_of(made[narrow]) == (stays,) and [one.host for one in made[narrow].lost] == [off]
    assert len(made) == 3
    for host in (cut, off):
        assert f"{host} is set aside: does not answer" in output
    assert "## Cells that did not finish" in output and failure.exception in output


def test_what_an_sshd_leaves_behind_is_ended_and_run_elsewhere(write_matrix, tmp_path: Path) -> None:
    """Without its listener a host finishes what it runs; without its sessions it is set aside."""
    file = write_matrix({"seed": list(range(4)), "steps": SHORT, "evaluate_every": SHORT})
    results = tmp_path / "results"
    with hosts(2, tmp_path / "hosts") as them, started(them, file, results, **light_run.instead(file)) as run:
        stays, fails = them.addresses
        wait_in(run, lambda: training(results, fails, SHORT))
        unharmed = training(results, fails, SHORT)
        them.end_sshd(fails)
        wait_in(run, lambda: training(results, fails, SHORT) not in ("", unharmed))
        lost = training(results, fails, SHORT)
        them.end_sshd(fails, sessions=True)
        output, _ = run.communicate(timeout=600)
        assert run.returncode == 0, output
        assert all(not ours(them, host) for host in them.addresses)
    made = by_name(results)
    assert len(made) == 4 and hosts_of(made[unharmed]) == (fails,) and not made[unharmed].lost
    assert hosts_of(made[lost]) == (stays,) and [one.host for one in made[lost].lost] == [fails]
    assert f"{fails} is set aside: does not answer" in output


def test_ranks_end_with_their_run_and_the_next_run_goes_on(write_matrix, tmp_path: Path) -> None:
    """Killed with -9. Meanwhile, what the user has set reaches ranks on hosts whose sshd takes no variable from anyone,
    and secrets are seen by nobody else."""
    steps = 5 * SHORT
    file = write_matrix({"ranks": 2, "steps": steps, "evaluate_every": steps})
    results, torn, secret = tmp_path / "results", tmp_path / "torn", "hf_qmzpwoxn"
    value = f"""'a' "b" $(touch {torn}) `touch {torn}`; touch {torn}\n\\ *"""
    given = dict.fromkeys(("NCCL_X", "GLOO_X", "HF_X", "BENCH_X"), value) | {"HF_TOKEN": secret}
    ranks = light_run.instead(file)
    with hosts(2, tmp_path / "hosts") as them, started(them, file, results, **given, **ranks) as run:
        wait_in(run, lambda: all(training(results, host, steps) for host in them.addresses))
        for host in them.addresses:
            (rank,) = ours(them, host, "light_worker")
            has = rank.environ()
            expected = {**given, "GLOO_SOCKET_IFNAME": "eth0", "BENCH_HOST": host}
            assert {name: has.get(name) for name in expected} == expected
        for process in psutil.process_iter(["cmdline"]):
            assert secret not in " ".join(process.info["cmdline"] or []), process
        left = [process for host in them.addresses for process in ours(them, host)]
        run.send_signal(signal.SIGKILL)
        wait_for(lambda: not any(ours(them, host) for host in them.addresses))
        with started(them, file, results, **given, **ranks) as again:
            output, _ = again.communicate(timeout=600)
        assert again.returncode == 0 and "1 ok" in output and "1 cells, 1 to run" in output, output
    assert len(left) >= 6 and not torn.exists()
    for one in results.rglob("*"):
        assert not one.is_file() or secret.encode() not in one.read_bytes(), one


def test_a_rank_that_is_killed_or_stopped_costs_its_cell_alone(write_matrix, tmp_path: Path) -> None:
    """In two groups, each on two hosts."""
    file = write_matrix(
        {"ranks": 2, "seed": [0, 1], "steps": LONG, "evaluate_every": LONG}, include=[{"ranks": 1, "seed": 2}]
    )
    results = tmp_path / "results"
    with (
        hosts(4, tmp_path / "hosts") as them,
        started(them, file, results, "--timeout", "8", **light_run.instead(file)) as run,
    ):
        first, second = them.addresses[1], them.addresses[3]
        wait_in(run, lambda: training(results, first, LONG) and training(results, second, LONG))
        killed, stopped = training(results, first, LONG), training(results, second, LONG)
        for host, number in ((first, signal.SIGKILL), (second, signal.SIGSTOP)):
            (rank,) = ours(them, host, "light_worker")
            rank.send_signal(number)
        output, _ = run.communicate(timeout=600)
        assert run.returncode == 1, output
        assert not any(ours(them, host) for host in them.addresses)
    made = by_name(results)
    assert {name: made.pop(name).status for name in (killed, stopped)} == {killed: "failed", stopped: "timeout"}
    assert [record.status for record in made.values()] == ["ok"], output
    made = by_name(results)
    ended, hung = made[killed].failure, made[stopped].failure
    assert (ended.rank, ended.host, ended.phase) == (1, first, "train"), ended
    assert ended.exception == f"rank 1 on {ended.host} ended without a record: ended by SIGKILL"
    assert (hung.rank, hung.host, hung.phase) == (1, second, "train"), hung
    assert hung.exception == f"no rank made progress for 8 s: rank 1 on {second} is stopped"


def test_two_runs_on_two_hosts_share_the_cells(write_matrix, tmp_path: Path) -> None:
    """Each on its own host alone, and on one results folder."""
    file = write_matrix({"seed": list(range(6)), "steps": SHORT, "evaluate_every": SHORT})
    results, ranks = tmp_path / "results", light_run.instead(file)
    line = command(file, results, module=ranks.pop("module"))
    with hosts(2, tmp_path / "hosts") as them:
        runs = [them.start_in(host, line, env=them.environment | ranks, **TOLD) for host in them.addresses]
        outputs = [run.communicate(timeout=600)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert len(by_name(results)) == 6
    queues = [file.read_text().splitlines() for file in results.glob(".run/*/*/queue.jsonl")]
    cells = [line for lines in queues for line in lines if "end" not in json.loads(line)]
    assert len(cells) == len(set(cells)) == 6, "each is given to one group"
    assert all(any(file.read_text().strip() for file in run.glob("*/queue.jsonl")) for run in results.glob(".run/2*"))


@pytest.mark.parametrize("launcher", [pytest.param("openmpi", marks=with_mpirun), "agents"])
def test_other_launchers_start_ranks_on_two_hosts(launcher: str, write_matrix, tmp_path: Path) -> None:
    file, results = write_matrix({"ranks": 2, "zero": "zero3"}), tmp_path / "results"
    ranks = light_run.instead(file) if launcher == "agents" else {}
    with hosts(2, tmp_path / "hosts") as them, contextlib.ExitStack() as stack:
        if launcher == "agents":
            for host in them.addresses:
                them.end_sshd(host)
                agent = [sys.executable, "-m", "bench", "node-agent", "--results", str(results), "--name", host]
                own = os.environ | ranks
                stack.callback(stack.enter_context(them.start_in(host, agent, env=own, **TOLD)).kill)
        run = stack.enter_context(started(them, file, results, "--launcher", launcher, **ranks))
        output, _ = run.communicate(timeout=600)
        assert run.returncode == 0, output
        assert not any(ours(them, host) for host in them.addresses)
    (record,) = by_name(results).values()
    assert record.status == "ok" and hosts_of(record) == tuple(them.addresses)
