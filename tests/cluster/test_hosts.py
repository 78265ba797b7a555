"""The hosts that other tests stand on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hosts import Hosts, hosts, needs_hosts
from places import HELPERS

pytestmark = [needs_hosts, pytest.mark.full]


def said(them: Hosts, address: str, command: str = "hostname") -> str:
    """What `command` writes there, over ssh from here; empty when it is not reached."""
    ssh = ["ssh", "-F", str(them.folder / "ssh_config"), address, command]
    return subprocess.run(ssh, capture_output=True, text=True, check=False).stdout.strip()


def links() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def test_hosts_reach_each_other_until_they_are_cut_off_and_nothing_is_left(tmp_path: Path) -> None:
    before = links()
    with hosts(2, tmp_path / "hosts", slots=[2, 1]) as them:
        first, second = them.addresses
        assert them.hostfile.read_text() == f"{first} slots=2\n{second} slots=1\n"
        assert [said(them, address) for address in them.addresses] == ["host0", "host1"]
        across = f"ssh -F {them.folder}/ssh_config {second} cat /proc/sys/kernel/random/boot_id"
        assert said(them, first, across) == (them.folder / "host1.boot_id").read_text().strip()
        assert said(them, first, "getent hosts host1").split() == [second, "host1"]
        pdsh = ["pdsh", "-R", "ssh", "-S", "-N", "-w", second, "hostname"]
        done = subprocess.run(pdsh, capture_output=True, text=True, env=them.environment, check=True)
        assert done.stdout == "host1\n"

        them.cut(second)
        assert not said(them, second) and not said(them, first, across)
        assert them.run_in(second, ["hostname"], capture_output=True).stdout == "host1\n", "it is alive, but alone"
        them.join(second)
        assert said(them, second) == "host1"
        inside = [process for address in them.addresses for process in them.processes(address)]
        assert len(inside) >= 4 and len({process.pid for process in inside}) == len(inside)
    assert links() == before
    assert not [process for process in inside if process.is_running()]


def test_an_sshd_ends_with_or_without_its_sessions(tmp_path: Path) -> None:
    with hosts(1, tmp_path / "hosts") as them:
        (address,) = them.addresses
        ssh = ["ssh", "-F", str(them.folder / "ssh_config"), address, "echo here; read line; echo $line; sleep 1000"]
        with subprocess.Popen(ssh, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
            assert session.stdin and session.stdout and session.stdout.readline() == "here\n"
            them.end_sshd(address)
            assert not said(them, address), "nobody new is let in"
            session.stdin.write("still here\n")
            session.stdin.flush()
            assert session.stdout.readline() == "still here\n"
            them.start_sshd(address)
            assert said(them, address) == "host0"
            them.end_sshd(address, sessions=True)
            assert session.wait(timeout=60) == 255
        names = [process.name() for process in them.processes(address)]
        assert not [name for name in names if name.startswith("sshd")] and names.count("sleep") == 2, names


def test_a_host_without_power_runs_nothing(tmp_path: Path) -> None:
    with hosts(2, tmp_path / "hosts") as them:
        first, second = them.addresses
        running = them.start_in(second, ["sleep", "1000"])
        them.power_off(second)
        running.wait(timeout=60)
        assert not them.processes(second) and not said(them, second) and said(them, first) == "host0"


def test_hosts_end_with_the_process_that_made_them(tmp_path: Path) -> None:
    """Also when it cannot tidy up."""
    before = links()
    script = f"""
import sys, time
sys.path.insert(0, {str(HELPERS)!r})
from pathlib import Path
from hosts import hosts
with hosts(1, Path({str(tmp_path / "hosts")!r})) as them:
    print(*(process.pid for process in them.processes(them.addresses[0])), flush=True)
    time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout
        inside = [psutil.Process(int(word)) for word in maker.stdout.readline().split()]
        assert len(inside) >= 2 and links() > before
        maker.kill()
    end = time.monotonic() + 60
    while links() != before or any(process.is_running() for process in inside):
        assert time.monotonic() < end, (links() - before, inside)
        time.sleep(0.05)
