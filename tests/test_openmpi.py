"""Ranks through mpirun, started by deepspeed: on two hosts that are both this one, reached by a stand-in for ssh."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench import records
from bench.clocks import Clocks
from bench.launchers.base import Group
from bench.launchers.openmpi import OpenMPI
from bench.processes import Session
from bench.schedule import Place

PLACE = Place((("n2", (0, 2)), ("n1", (1,))))
SSH = '#!/bin/sh\nexport REACHED=$1\nshift\nexec sh -c "$*"\n'
TOLD = """
import os, time
os.write(1, "rank {OMPI_COMM_WORLD_RANK} {REACHED}\\n".format(**os.environ).encode())  # whole, beside those of others
time.sleep(600)
"""

with_mpirun = pytest.mark.skipif(not shutil.which("mpirun"), reason="no mpirun (Debian: apt-get install openmpi-bin)")


def group(work: Path, arguments: tuple[str, ...] = ()) -> Group:
    return Group(PLACE, {"n1": 4, "n2": 4}, work, "192.0.2.1", 20000, arguments)


def test_a_group_has_a_hostfile_of_its_own_slots(tmp_path: Path) -> None:
    launcher = OpenMPI()
    command = launcher.command(group(tmp_path, ("--mca", "plm_rsh_args", "-p 2222")))
    assert command[-3:] == ["--module", "bench.guard", str(tmp_path)] and "--include" not in command
    assert "--launcher_args=--map-by slot --bind-to none --mca plm_rsh_args '-p 2222'" in command
    variables = launcher.variables(group(tmp_path))
    assert Path(command[command.index("--hostfile") + 1]).read_text() == "n2 slots=2\nn1 slots=1\n"
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in variables) == (os.geteuid() == 0)


@pytest.fixture
def reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agent").write_text(SSH)
    (tmp_path / "agent").chmod(0o755)
    monkeypatch.setenv("OMPI_MCA_plm_rsh_agent", str(tmp_path / "agent"))


@with_mpirun
def test_ranks_are_in_the_order_of_slots_and_end_together(reached, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(TOLD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    launcher = OpenMPI()
    command = ["told" if word == "bench.guard" else word for word in launcher.command(group(tmp_path))]
    session = Session(command, tmp_path / "log", {**os.environ, **launcher.variables(group(tmp_path))}, Clocks())
    try:
        end = time.monotonic() + 60
        while len(lines := [line for line in log(tmp_path) if line.startswith("rank ")]) < 3:
            assert time.monotonic() < end and session.poll() is None, log(tmp_path)
            time.sleep(0.1)
        assert sorted(lines) == ["rank 0 n2", "rank 1 n2", "rank 2 n1"]
        assert launcher.ends_by_signal(group(tmp_path))
        session.signal(signal.SIGTERM)
        end = time.monotonic() + 20
        while ranks(tmp_path) and time.monotonic() < end:
            time.sleep(0.1)
        assert not ranks(tmp_path)
    finally:
        session.end(0)
        for one in ranks(tmp_path):
            one.kill()


def log(work: Path) -> list[str]:
    return (work / "log").read_text().splitlines()


def ranks(work: Path) -> list[psutil.Process]:
    """Those of the module `told`, wherever they are."""
    found = psutil.process_iter(["cmdline"])
    return [one for one in found if (one.info["cmdline"] or [])[2:] == ["-m", "told", str(work)]]


@with_mpirun
@pytest.mark.timeout(300)
def test_a_matrix_runs_through_mpirun(reached, write_matrix, tmp_path: Path) -> None:
    method = {"kind": "prompt_tuning", "length": 3}
    file = write_matrix({"method": method, "ranks": 2, "steps": 2, "evaluate_every": 2})
    results, hosts = tmp_path / "results", tmp_path / "hosts"
    hosts.write_text("127.0.0.2 slots=1\n127.0.0.3 slots=1\n")
    command = [sys.executable, "-m", "bench", "run", str(file), "--results", str(results), "--hostfile", str(hosts)]
    done = subprocess.run([*command, "--launcher", "openmpi"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [record.status for record in records.read_all(results).records] == ["ok"]
