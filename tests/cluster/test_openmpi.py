"""Ranks through mpirun, started by deepspeed: on two hosts that are both this one, reached by a stand-in for ssh."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest
from runs import wait_for
from scripted import said, saying

from bench.cluster.launchers.base import Group
from bench.cluster.launchers.openmpi import OpenMPI
from bench.cluster.slots import Allocation

PLACE = Allocation((("n2", (0, 2)), ("n1", (1,))))
SSH = '#!/bin/sh\nexport REACHED=$1\nshift\nexec sh -c "$*"\n'

with_mpirun = pytest.mark.skipif(not shutil.which("mpirun"), reason="no mpirun (Debian: apt-get install openmpi-bin)")


def group(work: Path, arguments: tuple[str, ...] = ()) -> Group:
    return Group(PLACE, {"n1": 4, "n2": 4}, work, "192.0.2.1", 20000, arguments)


def test_a_group_has_a_hostfile_of_its_own_slots(tmp_path: Path) -> None:
    launcher = OpenMPI()
    command = launcher.command(group(tmp_path, ("--mca", "plm_rsh_args", "-p 2222")))
    assert command[-3:] == ["--module", "bench.cluster.rank_supervisor", str(tmp_path)] and "--include" not in command
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
@pytest.mark.full
def test_ranks_are_in_the_order_of_slots_and_end_together(reached, monkeypatch, tmp_path: Path) -> None:
    with saying(OpenMPI(), group(tmp_path), monkeypatch) as running:
        ranks = said(running)
        names = (
            "REACHED",
            "BENCH_HOST",
            "RANK",
            "LOCAL_RANK",
            "WORLD_SIZE",
            "LOCAL_SIZE",
            "MASTER_ADDR",
            "MASTER_PORT",
        )
        for rank, place in zip(
            ranks, (("n2", "0", "0", "2"), ("n2", "1", "1", "2"), ("n1", "2", "0", "1")), strict=True
        ):
            host, number, local, beside = place
            assert [rank[name] for name in names] == [host, host, number, local, "3", beside, "192.0.2.1", "20000"]
        assert running.launcher.ends_by_signal(running.group)
        running.session.signal(signal.SIGTERM)
        wait_for(lambda: not any(psutil.pid_exists(int(rank["PID"])) for rank in ranks), 60)
