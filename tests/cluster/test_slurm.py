"""Ranks through srun: a stand-in that takes what srun takes, and a real cluster here where Slurm is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import light_run
import psutil
import pytest
import slurm as real
import srun
from places import HELPERS, ROOT
from runs import wait_for
from scripted import QUICK, said, saying

from bench.cluster import failure_diagnosis
from bench.cluster.launchers.base import Group
from bench.cluster.launchers.slurm import INHERITED, Slurm, allocation
from bench.cluster.network_interfaces import is_here
from bench.cluster.slots import Allocation, SlotPool, SlotRequest
from bench.cluster.timeouts import Timeouts
from bench.core.settings import InputError
from bench.records import store
from bench.runner.launch import Launch
from bench.training import WORKER

PLACE = Allocation((("n2", (0, 1)), ("n1", (1,))))
SCONTROL = """#!/bin/sh
case "$*" in
"show hostnames "*) echo "$3" | tr ',' '\\n' ;;
"show node "*) echo "NodeName=$3 Arch=x86_64 NodeAddr=127.0.0.1 NodeHostName=$3" ;;
*) exit 1 ;;
esac
"""
LINES = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1,n2"}


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """srun and scontrol of tests/ on PATH, and no Slurm around."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "scontrol").write_text(SCONTROL)
    (folder / "srun").write_text(f'#!/bin/sh\nexec {sys.executable} {HELPERS / "srun.py"} "$@"\n')
    for file in folder.iterdir():
        file.chmod(0o755)
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def in_allocation(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in {**LINES, **variables}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "slots"),
    [
        ({"SLURM_TASKS_PER_NODE": "2(x2)"}, [2, 2]),
        ({"SLURM_TASKS_PER_NODE": "4,1", "SLURM_JOB_CPUS_PER_NODE": "8(x2)"}, [4, 1]),
        ({"SLURM_JOB_CPUS_PER_NODE": "8(x2)"}, [8, 8]),
        ({"SLURM_GPUS_ON_NODE": "4", "SLURM_TASKS_PER_NODE": "1(x2)"}, [4, 4]),
        ({"SLURM_GPUS_ON_NODE": "4", "SLURM_GPUS": "8"}, [4, 4]),
        ({"SLURM_JOB_GPUS": "0,3", "SLURM_TASKS_PER_NODE": "1(x2)"}, [2, 2]),
        ({"SLURM_GPUS_PER_NODE": "a100:8", "SLURM_TASKS_PER_NODE": "1(x2)"}, [8, 8]),  # all that salloc tells
        ({"SLURM_JOB_NODELIST": "n1,n2,n3,n4", "SLURM_TASKS_PER_NODE": "2(x3),1"}, [2, 2, 2, 1]),
    ],
)
def test_slots_of_an_allocation(stand_ins, monkeypatch, variables: dict[str, str], slots: list[int]) -> None:
    in_allocation(monkeypatch, **variables)
    hosts = variables.get("SLURM_JOB_NODELIST", "n1,n2").split(",")
    assert allocation() == dict(zip(hosts, slots, strict=True))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "SLURM_JOB_CPUS_PER_NODE: not set"),
        ({"SLURM_TASKS_PER_NODE": "2(x"}, "SLURM_TASKS_PER_NODE: found '2(x', expected a number for each host"),
        ({"SLURM_TASKS_PER_NODE": "0(x2)"}, "SLURM_TASKS_PER_NODE: found '0(x2)'"),
        ({"SLURM_TASKS_PER_NODE": "-1,2"}, "SLURM_TASKS_PER_NODE: found '-1,2'"),
        ({"SLURM_TASKS_PER_NODE": "2(x3)"}, "found '2(x3)', for 3 hosts, expected one number for each of 2"),
        ({"SLURM_GPUS_ON_NODE": "two"}, "SLURM_GPUS_ON_NODE: found 'two', expected a number of GPUs"),
        ({"SLURM_JOB_GPUS": "0;1"}, "SLURM_JOB_GPUS: found '0;1', expected GPUs"),
        ({"SLURM_GPUS_ON_NODE": "4", "SLURM_GPUS": "a100:6"}, "SLURM_GPUS: found 'a100:6', expected 8, 4 on each of 2"),
        ({"SLURM_GPUS": "6", "SLURM_TASKS_PER_NODE": "1(x2)"}, "ask for them by --gpus-per-node"),
        ({"SLURM_JOB_NODELIST": ""}, "SLURM_JOB_NODELIST: not set"),
    ],
)
def test_an_allocation_that_cannot_be_read_names_the_variable(
    stand_ins, monkeypatch, variables: dict[str, str], message: str
) -> None:
    in_allocation(monkeypatch, **variables)
    with pytest.raises(InputError, match="Slurm's environment: ") as told:
        allocation()
    assert message in str(told.value)


def test_outside_of_an_allocation(stand_ins) -> None:
    assert allocation() is None
    assert "inside salloc or sbatch" in (Slurm().missing() or "")
    with pytest.raises(InputError, match="--launcher slurm: SLURM_JOB_ID is not set"):
        Slurm().hosts()


def group(work: Path, place: Allocation = PLACE, arguments: tuple[str, ...] = ()) -> Group:
    return Group(place, {"n1": 2, "n2": 2}, work, "192.0.2.1", 20000, arguments)


def test_a_step_names_the_host_of_every_rank(tmp_path: Path) -> None:
    words = Slurm().command(group(tmp_path, arguments=("--label",)))
    options, command = srun.parsed(words[1:])
    assert words[0] == "srun" and command == [
        sys.executable,
        "-u",
        "-m",
        "bench.cluster.rank_supervisor",
        str(tmp_path),
    ]
    assert [options[name] for name in ("--nodelist", "--nodes", "--ntasks")] == ["n2,n2,n1", "2", "3"]
    assert "--label" in options, "what the user passes on"


def tasks(output: str) -> list[tuple[int, str, int]]:
    """Rank, host and place on the host of each task that said so."""
    lines = [line.split() for line in output.splitlines() if line.startswith("task ")]
    return sorted((int(rank), host, int(local)) for _, rank, host, local in lines)


WHERE = "echo task $SLURM_PROCID $SLURMD_NODENAME $SLURM_LOCALID"
ALL_TASKS = [(0, "n2", 0), (1, "n2", 1), (2, "n1", 0)]


def step(work: Path, script: str) -> list[str]:
    """The command of a group, with a shell in the place of its guards."""
    words = Slurm().command(group(work))
    return [*words[: words.index(sys.executable)], "sh", "-c", script]


def test_the_stand_in_refuses_what_srun_refuses(stand_ins, monkeypatch, tmp_path: Path) -> None:
    in_allocation(monkeypatch)

    def call(command: list[str], **variables: str) -> tuple[int, str]:
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert call(["srun", "--include=n1:0", "true"])[0] == 255
    code, output = call(step(tmp_path, WHERE))
    assert code == 0 and tasks(output) == ALL_TASKS
    assert call(step(tmp_path, '[ "$SLURM_PROCID" = 1 ] && exit 7; exec sleep 60'))[0] != 0
    code, output = call(step(tmp_path, WHERE), SLURM_JOB_NODELIST="n1,n3")
    assert code == 1 and "not available" in output
    for name in ("SLURM_EXCLUSIVE", "SLURM_GPUS_PER_TASK"):
        assert call(step(tmp_path, WHERE), **{name: "1"})[0] != 0 and name.startswith(INHERITED)
    assert Slurm().reachable("n2", Timeouts()) and not Slurm().reachable("n9", Timeouts())


def test_ranks_have_the_places_of_the_allocation_and_end_together(stand_ins, monkeypatch, tmp_path: Path) -> None:
    in_allocation(monkeypatch, SLURM_TASKS_PER_NODE="2,1", SLURM_EXCLUSIVE="1")  # which steps must not inherit
    how = Launch(tmp_path, launcher=Slurm(), timeouts=QUICK, worker=WORKER)
    slots = how.hosts(3)
    place = SlotPool(slots).allocate(SlotRequest(3))
    assert place is not None
    with saying(Slurm(), how.group(place, slots, tmp_path, set()), monkeypatch) as running:
        ranks = said(running)
        assert is_here(running.group.address, 60), "as Slurm knows the first host"
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "BENCH_HOST", "MASTER_ADDR", "MASTER_PORT")
        places = [("0", "0", "2", "n1"), ("1", "1", "2", "n1"), ("2", "0", "1", "n2")]
        for rank, (number, local, beside, host) in zip(ranks, places, strict=True):
            expected = [number, local, "3", beside, host, running.group.address, str(running.group.port)]
            assert [rank[name] for name in names] == expected
            assert rank["SLURMD_NODENAME"] == host and "SLURM_EXCLUSIVE" not in rank
        running.end()
        wait_for(lambda: not any(psutil.pid_exists(int(rank["PID"])) for rank in ranks), 60)


def test_a_rank_that_fails_ends_the_step(stand_ins, monkeypatch, tmp_path: Path) -> None:
    in_allocation(monkeypatch)
    monkeypatch.setenv("BENCH_FAILS", "1")
    with saying(Slurm(), replace(group(tmp_path), timeouts=QUICK), monkeypatch) as running:
        wait_for(lambda: running.session.poll() is not None)
        wait_for(lambda: running.poll() or running.failing)
        found = failure_diagnosis.first_failed_rank(running.exits)
        assert found is not None and (found.rank, found.host, found.code) == (1, "n2", 7)
        assert running.over


MATRIX = {"method": {"kind": "prompt_tuning", "length": 3}, "ranks": 2, "steps": 2, "evaluate_every": 2}


def statuses(results: Path) -> Counter[str]:
    reading = store.read_all(results)
    assert not reading.unreadable
    return Counter(record.status for record in reading.records)


# a real cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[real.Cluster]:
    try:
        with real.cluster() as made:
            yield made
    except real.CannotStart as why:
        pytest.skip(f"no Slurm cluster on this machine: {why}")


@pytest.mark.full
def test_srun_has_the_options_of_the_stand_in(cluster: real.Cluster) -> None:
    for name, values in srun.OPTIONS.items():
        for value in values or {"1"}:
            cluster.call("srun", f"{name}={value}" if value else name, "--version")
    refused = subprocess.run(
        ["srun", "--include=n1:0", "true"], env=cluster.variables, capture_output=True, check=False
    )
    assert refused.returncode == 255 and b"unrecognized option" in refused.stderr


@pytest.mark.full
def test_a_step_of_slurms_own_has_its_ranks_in_order(cluster: real.Cluster, tmp_path: Path) -> None:
    """Two steps at once on slots that both take, in a job that asked for what steps must not inherit."""
    script = tmp_path / "steps.py"
    words = step(tmp_path, f"{WHERE}; sleep 1")
    script.write_text(
        "import os, subprocess\n"
        f"own = {{name: one for name, one in os.environ.items() if not name.startswith({INHERITED!r})}}\n"
        f"steps = [subprocess.Popen({words!r}, env=own) for _ in range(2)]\n"
        "assert [one.wait() for one in steps] == [0, 0]\n"
        "from bench.cluster.timeouts import Timeouts\n"
        "from bench.cluster.launchers.slurm import Slurm, allocation\n"
        "assert allocation() == {'n1': 1, 'n2': 1}, allocation()\n"
        "assert Slurm().reachable('n2', Timeouts()) and not Slurm().reachable('n9', Timeouts())\n"
        "assert Slurm().address('n1', Timeouts()), 'the name resolves to nothing, its NodeAddr does'\n"
    )
    output = cluster.call("salloc", "--nodes=2", "--ntasks-per-node=1", "--exclusive", sys.executable, script)
    assert tasks(output) == sorted(2 * ALL_TASKS)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of ours as launch/slurm.sbatch sees it, set up with this interpreter."""
    folder = tmp_path / "checkout"
    (folder / "launch").mkdir(parents=True)
    shutil.copy(ROOT / "launch" / "slurm.sbatch", folder / "launch")
    (folder / "bin").mkdir()
    (folder / "bin" / "bench").write_text(f'#!/bin/sh\nexec {sys.executable} -m "${{module-bench}}" "$@"\n')
    (folder / "bin" / "bench").chmod(0o755)
    (folder / "launch" / "setup.sh").write_text(f'setup() {{ export PATH="{folder}/bin:$PATH"; }}\n')
    return folder


def submit(cluster: real.Cluster, checkout: Path, *words: object, **variables: str) -> str:
    command = ["sbatch", "--parsable", *words[:-2], checkout / "launch" / "slurm.sbatch", *words[-2:]]
    own = [f"{name}={value}" for name, value in variables.items()]
    return cluster.call("env", *own, *command, cwd=checkout).strip()


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_job_continues_after_its_time_limit_and_after_a_requeue(
    cluster: real.Cluster, checkout: Path, write_matrix, tmp_path: Path
) -> None:
    """Its ranks compute nothing."""
    file = write_matrix({**MATRIX, "ranks": 2, "seed": [0, 1, 2], "steps": 800, "evaluate_every": 800})
    results, options = tmp_path / "results", ("--nodes=2", "--ntasks-per-node=1", f"--output={tmp_path}/out")
    job = submit(cluster, checkout, *options, file, results, **light_run.instead(file))

    def told() -> str:
        output = tmp_path / "out"
        return "\n".join([*cluster.jobs(), output.read_text() if output.exists() else "no output"])

    def finished() -> int:
        return sum(statuses(results).values()) if results.exists() else 0

    def restarts() -> int:
        return int(cluster.call("scontrol", "show", "job", job).partition("Restarts=")[2].split()[0])

    wait_for(lambda: finished() >= 1, 300, told)
    cluster.call("scancel", "--batch", "--signal=USR1", job)  # what the time limit sends
    wait_for(lambda: restarts() == 1, 60, told)
    wait_for(lambda: len(list(results.glob(".run/2*/group-*/group.json"))) == 1, 300, told)  # as it starts ranks again
    cluster.call("scontrol", "requeue", job)
    wait_for(lambda: restarts() == 2, 60, told)
    wait_for(lambda: not cluster.jobs(), 300, told)
    assert statuses(results) == {"ok": 3}, told()
    assert "finished cells keep their records" in told() and "3 ok" in told()


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_jobs_of_an_array_share_the_cells(cluster: real.Cluster, checkout: Path, write_matrix, tmp_path: Path) -> None:
    file = write_matrix({**MATRIX, "ranks": 1, "seed": [0, 1, 2, 3], "steps": 40, "evaluate_every": 40})
    results = tmp_path / "results"
    options = ("--array=0-1", "--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=2", f"--output={tmp_path}/out-%a")
    submit(cluster, checkout, *options, file, results)
    wait_for(lambda: not cluster.jobs(), 500, lambda: "\n".join(file.read_text() for file in tmp_path.glob("out-*")))
    assert statuses(results) == {"ok": 4}, [file.read_text() for file in sorted(tmp_path.glob("out-*"))]
    runs: Counter[str] = Counter()
    for queue in results.glob(".run/*/*/queue.jsonl"):
        lines = [json.loads(line) for line in queue.read_text().splitlines()]
        runs.update(
            line["cell"]["name"] if "name" in line["cell"] else str(line["cell"]["seed"])
            for line in lines
            if "cell" in line
        )
    assert runs and set(runs.values()) == {1}, runs
    assert len({queue.parent.parent for queue in results.glob(".run/*/*/queue.jsonl")}) == 2, "both jobs ran cells"


def test_the_script_says_where_it_has_to_be_submitted_from(tmp_path: Path) -> None:
    script = ROOT / "launch" / "slurm.sbatch"
    own = {**os.environ, "SLURM_SUBMIT_DIR": str(tmp_path)}
    done = subprocess.run(["bash", script, "m", "r"], env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is not the checkout" in done.stderr
    done = subprocess.run(["bash", script], env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "usage: sbatch" in done.stderr
