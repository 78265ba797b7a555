"""Ranks started by agents, one on each host, which meet the run in the results folder alone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
from runs import wait_for
from scripted import QUICK, RANK, Scripted

from bench.cluster import heartbeat
from bench.cluster.launchers.agents import Agents, beat_file, ended_file
from bench.cluster.launchers.node import Node, launch_command
from bench.cluster.timeouts import Timeouts
from bench.core.settings import InputError
from bench.records import store
from bench.runner import loop
from bench.runner.launch import Launch
from bench.training import WORKER


@contextlib.contextmanager
def agents(results: Path, *hosts: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """`bench node-agent` for each host, all on this machine; ended with the block."""
    command = [sys.executable, "-m", "bench", "node-agent", "--results", str(results), "--name"]
    started = [subprocess.Popen([*command, host]) for host in hosts]
    try:
        wait_for(lambda: all(beat_file(results, host).exists() for host in hosts))
        yield started
    finally:
        for one in started:
            one.terminate()
        assert [one.wait(60) for one in started] == [0 for _ in started]


HOSTS = ("127.0.0.2", "127.0.0.3")


AGENT = """
import sys
from pathlib import Path
from bench.cluster.timeouts import Timeouts
from bench.cluster.launchers.node import Node
from bench.cluster.processes import stop_on_signals

results, host, rank, folder = sys.argv[1:]
stop_on_signals()
try:
    starts = lambda work, *_: [sys.executable, "-c", rank, str(work), folder]
    with Node(Path(results), host, Timeouts().scaled(0.1), starts) as one:
        one.serve()
except KeyboardInterrupt:
    pass
"""


def test_agents_start_the_ranks_of_a_run(expand, tmp_path: Path) -> None:
    """Ranks that are a script; two groups side by side, and one after the other on each host."""
    results, scripts = tmp_path / "results", tmp_path / "scripts"
    scripts.mkdir()
    scripted, cells = Scripted(scripts), expand({"seed": [0, 1, 2]})
    scripted.know(cells, results)
    scripted.ends("vanishes ends")
    (tmp_path / "hosts").write_text("".join(f"{host} slots=1\n" for host in HOSTS))
    started = [
        subprocess.Popen([sys.executable, "-c", AGENT, str(results), host, RANK, str(scripts)]) for host in HOSTS
    ]
    try:
        wait_for(lambda: all(beat_file(results, host).exists() for host in HOSTS))
        how = Launch(results, tmp_path / "hosts", launcher=Agents(results), timeouts=QUICK, worker=WORKER)
        loop.run(cells, how, lambda event: None)
    finally:
        for one in started:
            one.terminate()
        codes = [one.wait(60) for one in started]
    assert codes == [0, 0]
    reading = store.read_all(results)
    assert [record.status for record in reading.records] == ["unsupported"] * 3 and not reading.unreadable
    groups = list(results.glob(".run/*/group-*"))
    assert len(groups) >= 3 and all(len(list(group.glob("ended-*.json"))) == 1 for group in groups)
    assert not list((results / ".run" / "agents").iterdir()), "an agent that ended does not look alive"


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_matrix_runs_without_ssh(write_matrix, tmp_path: Path) -> None:
    """A group of two ranks on two hosts."""
    method = {"kind": "prompt_tuning", "length": 3}
    file = write_matrix({"method": method, "ranks": 2, "steps": 2, "evaluate_every": 2})
    results, hosts = tmp_path / "results", tmp_path / "hosts"
    hosts.write_text("".join(f"{host} slots=1\n" for host in HOSTS))
    command = [sys.executable, "-m", "bench", "run", str(file), "--results", str(results)]
    with agents(results, *HOSTS):
        done = subprocess.run(
            [*command, "--hostfile", str(hosts), "--launcher", "agents"], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    reading = store.read_all(results)
    assert [record.status for record in reading.records] == ["ok"] and not reading.unreadable
    nodes = [len(list(work.glob("ended-*.json"))) for work in results.glob(".run/*/group-*")]
    assert nodes == [2], "each part was started once"
    assert not list((results / ".run" / "agents").iterdir()), "an agent that ended does not look alive"


def group_of(results: Path, hosts: tuple[str, ...] = HOSTS, launcher: str = "agents") -> Path:
    """A group of one rank on each host, whose run is there, as an agent finds it."""
    work = results / ".run" / "run" / f"group-{len(list(results.glob('.run/run/group-*')))}"
    work.mkdir(parents=True)
    (work.parent / "lease").touch()
    (work / "stop").touch()
    ranks = [[host, 0] for host in hosts]
    described = {"launcher": launcher, "ranks": ranks, "address": "192.0.2.1", "port": 20000, "arguments": ["--quiet"]}
    described |= {"timeouts": asdict(QUICK)}
    (work / "group.json").write_text(json.dumps({**described, "lease": str(work.parent / "lease")}))
    return work


def go_on(work: Path) -> None:
    """The run of a group shows that it is there."""
    file = work.parent / "lease"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


def sleeping(work: Path, group: dict[str, Any], node: int) -> list[str]:
    return ["sh", "-c", "sleep 600 & wait"]


def ranks_of(agent: Node) -> list[psutil.Process]:
    """What its only part has started, as soon as it has."""
    part = psutil.Process(agent.parts[0].session._process.pid)
    wait_for(part.children)
    return part.children()


def test_deepspeed_starts_the_part_of_a_host(tmp_path: Path) -> None:
    work = group_of(tmp_path, ("a", "b"))
    command = launch_command(work, json.loads((work / "group.json").read_text()), 1)
    assert command[1:5] == ["-m", "deepspeed.launcher.runner", "--no_ssh", "--node_rank"] and command[5] == "1"
    assert command[command.index("--include") + 1] == "a:0@b:0"
    assert command[-4:] == ["--quiet", "--module", "bench.cluster.rank_supervisor", str(work)]


def test_an_agent_starts_its_part_once_and_ends_it_when_told(tmp_path: Path) -> None:
    work = group_of(tmp_path)
    others = group_of(tmp_path, ("elsewhere",)), group_of(tmp_path, launcher="pdsh")
    with Node(tmp_path, HOSTS[1], QUICK, sleeping) as first, Node(tmp_path, HOSTS[1], QUICK, sleeping) as second:
        first.look()
        assert not first.parts, "a run that is gone leaves its groups behind: its lease has to change"
        go_on(work)
        for _ in range(2):
            first.look()
            second.look()
        assert len(first.parts) == 1 and not second.parts, "two agents of one name"
        assert (work / "started-1").exists() and not any((one / "started-0").exists() for one in (work, *others))
        inside = ranks_of(first)
        heartbeat.stop(work, "the run is over")
        wait_for(lambda: first.look() or not first.parts)
        psutil.wait_procs(inside, 10)
        assert not inside[0].is_running()
        assert json.loads(ended_file(work, 1).read_text()) != 0


def test_a_group_that_is_taken_away_ends_with_its_parts(tmp_path: Path) -> None:
    work = group_of(tmp_path)
    with Node(tmp_path, HOSTS[0], QUICK, sleeping) as agent:
        agent.look()
        go_on(work)
        agent.look()
        assert agent.parts
        (work / "group.json").unlink()
        wait_for(lambda: agent.look() or not agent.parts)


def test_an_agent_that_ends_takes_its_ranks_with_it(tmp_path: Path) -> None:
    work = group_of(tmp_path)
    with Node(tmp_path, HOSTS[0], QUICK, sleeping) as agent:
        agent.look()
        go_on(work)
        agent.look()
        inside = ranks_of(agent)
    psutil.wait_procs(inside, 10)
    assert not inside[0].is_running() and ended_file(work, 0).exists()


def test_a_host_answers_while_its_agent_beats(tmp_path: Path) -> None:
    launcher = Agents(tmp_path)
    with agents(tmp_path, "a/../b"):  # a name that is no path
        assert launcher.reachable("a/../b", Timeouts())
        assert not launcher.reachable("b", QUICK)
    beat_file(tmp_path, "a").touch()
    assert not launcher.reachable("a", QUICK), "an agent that was killed leaves its file behind"
    assert {file.parent for file in tmp_path.rglob("*.beat")} == {tmp_path / ".run" / "agents"}


def test_a_hostfile_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--launcher agents: expected --hostfile"):
        Agents(tmp_path).hosts()
