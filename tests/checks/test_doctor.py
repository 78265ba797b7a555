"""`bench doctor`: what it makes of what hosts say, and what it finds out by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hosts import Hosts as RealHosts
from hosts import hosts, needs_hosts
from runs import call

from bench.checks.doctor import examine, gpus, meeting, probe
from bench.checks.doctor.checks import CHECKS, check
from bench.checks.doctor.facts import Facts, Folder, Gpu, Request
from bench.checks.doctor.findings import Finding
from bench.checks.doctor.hosts import Host, Hosts
from bench.cli import doctor
from bench.cluster import network_interfaces
from bench.cluster.timeouts import Timeouts

GIB = 2**30
H200 = Gpu(name="NVIDIA H200", total_bytes=140 * GIB, free_bytes=139 * GIB)
ROOM = Folder(path="/shared/folder", seen=True, free_bytes=900 * GIB)
VERSIONS = {"python": "3.11.7", "promptzero": "0.1.0", "torch": "2.6.0", "deepspeed": "0.19.8", "numpy": "1.26.4"}
FACTS = Facts(
    versions=dict(VERSIONS),
    code="c0de",
    commit="0123456789abcdef",
    dirty=False,
    cores=64,
    memory_bytes=200 * GIB,
    shared_memory_bytes=64 * GIB,
    gpus=(H200, H200),
    folders={"results": ROOM, "BENCH_CACHE": ROOM, "HF_HOME": ROOM},
    data_folder="/shared/data",
    data="da7a",
    interfaces={"lo": ("127.0.0.1",), "eth0": ("10.0.0.1",), "ib0": ("10.1.0.1",)},
    chosen_interfaces={},
    own_name="first",
    own_addresses=("10.0.0.1",),
    routes={"second": "eth0"},
    tools={name: f"/usr/bin/{name}" for name in ("C++", "ninja", "nvcc", "pdsh", "srun", "mpirun")},
    offline=False,
    hub=None,
    hub_token=True,
    port=40000,
)
SECOND = {
    "own_name": "second",
    "own_addresses": ("10.0.0.2",),
    "routes": {"first": "eth0"},
    "interfaces": {"lo": ("127.0.0.1",), "eth0": ("10.0.0.2",), "ib0": ("10.1.0.2",)},
}


def two(changed: dict[str, Any] | None = None, **host: Any) -> Hosts:
    """Two hosts in good order, the first one here; of the second some facts `changed`, or what is known of it."""
    facts = Facts.model_validate({**FACTS.model_dump(), **SECOND, **(changed or {})})
    first = Host("first", 2, True, address="10.0.0.1", clock=(-0.1, 0.2), facts=FACTS, replied=True)
    second = Host("second", 2, False, address="10.0.0.2", clock=(-0.1, 0.2), facts=facts, replied=True)
    first, second = replace(first, met={"second": None}), replace(second, met={"first": None})
    return Hosts((first, replace(second, **host)), frozenset({"results", "BENCH_CACHE", "HF_HOME"}))


def changed_folder(name: str, **changes: Any) -> dict[str, Any]:
    return {"folders": {**FACTS.folders, name: ROOM.model_copy(update=changes)}}


def wrong(hosts: Hosts) -> list[Finding]:
    return [one for one in check(hosts) if one.level in ("warning", "fault")]


def test_two_hosts_in_order_have_a_row_for_each_check_and_nothing_to_do() -> None:
    found = check(two())
    assert [(one.host, one.level, one.remedy) for one in found if one.level != "ok"] == []
    for host, without in (("first", {"clock"}), ("second", {"launchers"})):
        assert {one.check for one in found if one.host == host} == CHECKS.keys() - without
    assert doctor.summary(found) == "2 hosts: 0 faults, 0 warnings, 0 notes; fit to run"


NOBODY = {"facts": None, "met": None, "replied": False, "clock": None, "address": None}
BUSY = H200.model_copy(update={"processes": ("python", "Xorg")})
FULL = H200.model_copy(update={"free_bytes": GIB // 2})
HELD = H200.model_copy(update={"free_bytes": 100 * GIB})
UNKNOWN = H200.model_copy(update={"free_bytes": None, "total_bytes": None})
LOOPBACK = {"own_addresses": ("127.0.1.1",)}

# facts of the second host that differ, what else is known of it -> check, level, part of the found and of the remedy
FAULTS = {
    "no sshd": ({}, {**NOBODY, "unreachable": "ssh: connect to host second port 22: Connection refused"},
        "reach", "fault", "ssh: connect to host second port 22: Connection refused", "start sshd there"),
    "no key": ({}, {**NOBODY, "unreachable": "root@second: Permission denied (publickey)."},
        "reach", "fault", "Permission denied", "ssh-copy-id second"),
    "host key": ({}, {**NOBODY, "unreachable": "Host key verification failed."},
        "reach", "fault", "Host key", "ssh-keyscan second"),
    "no name": ({}, {**NOBODY, "unreachable": "ssh: Could not resolve hostname second: Name or service not known"},
        "reach", "fault", "resolve", "correct the name in the hostfile"),
    "no ssh": ({}, {**NOBODY, "unreachable": "[Errno 2] No such file or directory: 'ssh'"},
        "reach", "fault", "No such file", "install ssh here"),
    "silence": ({}, {**NOBODY, "unreachable": "no answer in 8 s"},
        "reach", "fault", "ssh: no answer in 8 s", "see that it is up"),
    "no checkout": ({}, {**NOBODY, "broken": "sh: cd: can't cd to /work", "address": "10.0.0.2"},
        "reach", "fault", "the probe: sh: cd: can't cd to /work", "this checkout with its .venv at the same path"),
    "one machine twice": ({"interfaces": FACTS.interfaces}, {},
        "reach", "fault", "the same machine as first", "one line in the hostfile"),
    "another torch": ({"versions": {**VERSIONS, "torch": "2.5.1"}}, {},
        "code", "fault", "torch 2.5.1 (here 2.6.0)", "launch/constraints.txt on every host"),
    "another commit": ({"code": "0ther", "commit": "fedcba9876543210", "dirty": True}, {},
        "code", "fault", "commit fedcba9876, with changes (here commit 0123456789)", "the same commit"),
    "a package missing": ({"versions": {**VERSIONS, "numpy": None}}, {},
        "code", "fault", "not installed: numpy", "pip install"),
    "a GPU too few": ({"gpus": (H200,)}, {}, "GPUs", "fault", "1 for 2 slots", "slots=1 in the hostfile"),
    "a GPU in use": ({"gpus": (H200, BUSY)}, {}, "GPUs", "warning", "on 1 (python, Xorg)", "end them"),
    "a full GPU": ({"gpus": (FULL, H200)}, {}, "GPUs", "fault", "less than 1 GiB is free on 0", "end what holds it"),
    "a GPU held": ({"gpus": (HELD, H200)}, {}, "GPUs", "warning", "nobody that can be seen", "outside the container"),
    "no driver": ({"gpus": (), "gpu_problem": "couldn't communicate with the NVIDIA driver"}, {},
        "GPUs", "fault", "couldn't communicate", "see to the driver"),
    "mixed hosts": ({"gpus": None}, {}, "GPUs", "fault", "none, but first has", "make two"),
    "no memory": ({"memory_bytes": GIB // 2}, {}, "memory", "fault", "0.5 GiB available for 2 slots", "fewer slots"),
    "little memory": ({"memory_bytes": 2 * GIB}, {}, "memory", "warning", "2.0 GiB available for 2", "fewer slots"),
    "a container's /dev/shm": ({"shared_memory_bytes": 2**26}, {},
        "memory", "warning", "0.1 GiB free in /dev/shm", "--shm-size"),
    "results of its own": (changed_folder("results", seen=False), {"replied": False},
        "results", "fault", "what is written here is not there", "mount one file system"),
    "results one way": ({}, {"replied": False},
        "results", "fault", "what is written there is not here", "mount one file system"),
    "results read-only": (changed_folder("results", problem="Read-only file system"), {"replied": False},
        "results", "fault", "/shared/folder: Read-only file system", "all hosts share"),
    "full results": (changed_folder("results", free_bytes=2**20), {},
        "results", "warning", "0.0 GiB free", "make room"),
    "no data": ({"data": None}, {}, "data", "fault", "BENCH_DATA=/shared/data: no such folder", "copy it there"),
    "other data": ({"data": "0ther"}, {}, "data", "fault", "other files than here", "different examples"),
    "a full cache": (changed_folder("HF_HOME", free_bytes=GIB), {},
        "caches", "warning", "HF_HOME is /shared/folder, 1.0 GiB free, shared", "set HF_HOME to a larger disk"),
    "a closed cache": (changed_folder("BENCH_CACHE", problem="not writable"), {},
        "caches", "fault", "not writable", "set BENCH_CACHE to a folder that can be written"),
    "no address": ({}, {"address": None}, "network", "fault", "its name resolves to none", "/etc/hosts"),
    "no route": ({"routes": {"first": None}}, {}, "network", "fault", "no route to first", "ip route"),
    "loopback by name": (LOOPBACK, {},
        "network", "fault", "its own name second is 127.0.1.1, where Gloo would listen", "GLOO_SOCKET_IFNAME"),
    "a name of no address": ({"own_addresses": ()}, {}, "network", "fault", "is no address", "here to eth0"),
    "loopback chosen": ({"chosen_interfaces": {"NCCL_SOCKET_IFNAME": "=lo"}}, {},
        "network", "fault", "NCCL_SOCKET_IFNAME==lo is loopback", "leads to the others: eth0"),
    "no such interface": ({"chosen_interfaces": {"GLOO_SOCKET_IFNAME": "eth"}}, {},
        "network", "fault", "GLOO_SOCKET_IFNAME=eth is none of its interfaces", "here: lo, eth0, ib0"),
    "a firewall": ({}, {"met": {"first": "10.0.0.1 does not answer"}},
        "ports", "fault", "first on a free port: 10.0.0.1 does not answer", "open all unprivileged TCP ports"),
    "a clock ahead": ({}, {"clock": (2.5, 3.5)}, "clock", "warning", "+3.0 s, known to 0.5 s", "NTP"),
    "a clock behind": ({}, {"clock": (-9.0, -8.0)}, "clock", "warning", "-8.5 s", "nothing of a run compares clocks"),
    "no compiler": ({"tools": {**FACTS.tools, "nvcc": None, "ninja": None}}, {},
        "compilers", "warning", "no ninja, nvcc", "offloads to the CPU only"),
    "no hub": ({"hub": "timed out"}, {}, "hub", "warning", "not reached: timed out", "HF_HUB_OFFLINE=1"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_alone_and_with_what_to_do(name: str) -> None:
    changed, host, expected, level, found, remedy = FAULTS[name]
    hosts = two(changed, **host)
    also = {"GPUs"} if name == "mixed hosts" else {"reach"} if name == "one machine twice" else set()
    here = [one for one in wrong(hosts) if one.host == "first"]
    assert {one.check for one in here} <= also, here
    (one,) = [one for one in wrong(hosts) if one.host == "second"]
    assert (one.check, one.level) == (expected, level)
    assert found in one.found and remedy in one.remedy, one
    assert ("a run would fail" in doctor.summary([one])) == (level == "fault")


# the same, where there is nothing to do
FINE = {
    "loopback by name, but an interface is named": {**LOOPBACK, "chosen_interfaces": {"GLOO_SOCKET_IFNAME": "eth0"}},
    "another interface than the route's": {"chosen_interfaces": {"NCCL_SOCKET_IFNAME": "ib"}},
    "a GPU that does not tell": {"gpus": (UNKNOWN, UNKNOWN)},
    "more GPUs than slots": {"gpus": (H200,) * 8},
    "offline": {"offline": True},
    "another commit of the same code": {"commit": "fedcba9876543210"},
    "caches of its own": changed_folder("HF_HOME", seen=False),
    "no data anywhere": {"data_folder": None, "data": None},
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_no_fault_is_none(name: str) -> None:
    assert not wrong(two(FINE[name]))


def test_this_machine_needs_ssh_to_itself_only_among_others() -> None:
    hosts = two()
    refused = replace(hosts.every[0], unreachable="Permission denied", clock=None)
    (one,) = wrong(replace(hosts, every=(refused, hosts.every[1])))
    assert one.check == "reach" and one.found.startswith("ssh to itself: ") and "those here, too" in one.remedy


def test_a_machine_that_only_starts_ranks_needs_no_gpu_but_pdsh() -> None:
    facts = FACTS.model_copy(update={"gpus": None, "tools": {**FACTS.tools, "pdsh": None}})
    login = Host("localhost", 0, True, facts=facts, replied=True)
    second = two().every[1]
    (one,) = wrong(Hosts((second, login), frozenset({"results"}), torn=()))
    assert (one.host, one.check, one.level) == ("localhost", "launchers", "fault")
    assert one.found == "no pdsh; but mpirun, srun" and "--launcher" in one.remedy
    assert {one.check for one in check(Hosts((login,), frozenset()))} & {"GPUs", "ports", "network"} == set()


def test_a_torch_for_cpus_leaves_gpus_unused() -> None:
    facts = FACTS.model_copy(update={"versions": {**VERSIONS, "torch": "2.6.0+cpu"}})
    (one,) = wrong(Hosts((Host("localhost", None, True, facts=facts, replied=True),), frozenset()))
    assert (one.check, one.level, one.remedy) == ("GPUs", "warning", "install torch for CUDA")


def test_slots_may_outnumber_cores_where_no_gpu_is() -> None:
    alone = Host("localhost", 65, True, facts=FACTS.model_copy(update={"gpus": None}), replied=True)
    (row,) = [one for one in check(Hosts((alone,), frozenset())) if one.check == "GPUs"]
    assert (row.level, row.found) == ("note", "no GPU; 65 slots share 64 cores")


LISTED = """0, GPU-aa11, 143771, 142000, NVIDIA H200
1, GPU-bb22, 143771, 1000, NVIDIA H200
2, GPU-cc33, [N/A], [N/A], GRID, virtual
"""
RUNNING = "GPU-bb22, 17, 141000, /opt/env/bin/python3\nGPU-bb22, 18, [N/A], [Not Found]\n"


def test_gpus_are_read_as_nvidia_smi_prints_them() -> None:
    first, second, third = gpus.parse(LISTED, RUNNING, None)
    assert first == Gpu(name="NVIDIA H200", total_bytes=143771 * 2**20, free_bytes=142000 * 2**20)
    assert second.processes == ("[Not Found]", "python3") and second.free_bytes == 1000 * 2**20
    assert third == Gpu(name="GRID, virtual", total_bytes=None, free_bytes=None)


@pytest.mark.parametrize(
    "visible, expected", [("1", [1000]), ("GPU-aa,2", [142000, None]), ("", []), ("0, 1", [142000, 1000])]
)
def test_gpus_that_a_run_may_not_use_do_not_count(visible: str, expected: list[int | None]) -> None:
    free = [None if gpu.free_bytes is None else gpu.free_bytes // 2**20 for gpu in gpus.parse(LISTED, "", visible)]
    assert free == expected


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """A different one each."""
    with contextlib.ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.socket()) for name in names}
        for one in sockets.values():
            one.bind(("", 0))
        return {name: one.getsockname()[1] for name, one in sockets.items()}


def invitation(name: str, ports: dict[str, int], seconds: float = 60) -> meeting.Invitation:
    others = {other: ("127.0.0.1", port) for other, port in ports.items() if other != name}
    return meeting.Invitation(
        name=name, port=ports[name], others=others, timeouts=Timeouts(meet=seconds, answer=2 * seconds)
    )


def test_hosts_that_meet_are_done_at_once_also_when_one_is_late() -> None:
    ports = free_ports("abc")

    async def late() -> dict[str, str | None]:
        await asyncio.sleep(1)
        return await meeting.meet(invitation("c", ports))

    async def everybody() -> list[dict[str, str | None]]:
        return await asyncio.gather(*(meeting.meet(invitation(name, ports)) for name in "ab"), late())

    found = asyncio.run(asyncio.wait_for(everybody(), 50))
    assert found == [{"b": None, "c": None}, {"a": None, "c": None}, {"a": None, "b": None}]


def test_more_hosts_meet_than_knock_at_once(monkeypatch) -> None:
    monkeypatch.setattr(meeting, "AT_ONCE", 3)
    ports = free_ports(map(str, range(10)))

    async def everybody() -> list[dict[str, str | None]]:
        return await asyncio.gather(*(meeting.meet(invitation(name, ports)) for name in ports))

    found = asyncio.run(everybody())
    assert [set(one.values()) for one in found] == [{None}] * 10, found


def test_who_is_absent_or_somebody_else_is_told() -> None:
    ports = free_ports("abx")

    async def everybody() -> list[dict[str, str | None]]:
        stranger = invitation("stranger", {"stranger": ports["b"]}, seconds=4)
        stranger = stranger.model_copy(update={"others": {"nobody": ("127.0.0.1", ports["x"])}})
        return await asyncio.gather(meeting.meet(invitation("a", ports, seconds=3)), meeting.meet(stranger))

    mine, _ = asyncio.run(everybody())
    assert mine["b"] == "127.0.0.1 is another host"
    assert mine["x"] and "Connect" in mine["x"], mine


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        alone = invitation("a", {"a": taken.getsockname()[1], "b": 9}, seconds=60)
        (said,) = asyncio.run(meeting.meet(alone)).values()
    assert said and "in use" in said, said


def request(results: Path, **variables: str) -> Request:
    others = {"other": "10.9.8.7"}
    return Request(
        results=str(results), token="70ce", reply="4e91", variables=variables, others=others, timeouts=Timeouts()
    )


def test_the_probe_leaves_an_answer_only_where_the_question_is(tmp_path: Path) -> None:
    found = probe.results(tmp_path, request(tmp_path))
    assert (found.seen, found.problem) == (False, None) and not list(tmp_path.iterdir())
    (tmp_path / ".doctor-70ce").write_text("70ce")
    assert probe.results(tmp_path, request(tmp_path)).seen
    assert (tmp_path / ".doctor-4e91").read_text() == "4e91" and len(list(tmp_path.iterdir())) == 2
    assert probe.results(tmp_path / "none", request(tmp_path)).problem == "No such file or directory"


def test_the_probe_applies_what_a_run_would_and_tells_no_secret(tmp_path: Path) -> None:
    asked = request(tmp_path, HF_TOKEN="hf_secret", HF_HUB_OFFLINE="1", HF_HOME="/new", BENCH_CACHE="/other")
    own = {**os.environ, "BENCH_CACHE": str(tmp_path)}
    for name in ("HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE"):
        own.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bench.checks.doctor.probe"],
        input=asked.model_dump_json(),
        env=own,
        capture_output=True,
        text=True,
        check=False,
    )
    found = Facts.model_validate_json(done.stdout)
    assert found.offline and found.hub_token and "hf_secret" not in done.stdout
    assert found.folders["HF_HOME"].path == "/new"
    assert found.folders["BENCH_CACHE"].path == str(tmp_path), "what a host has set goes before"
    assert found.versions.keys() >= {"python", "promptzero", "torch", "deepspeed", "transformers", "peft", "numpy"}
    assert found.interfaces == {name: tuple(one) for name, one in network_interfaces.interfaces().items()}
    assert not [line for line in done.stderr.splitlines() if line.endswith(("| torch", "| transformers"))]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked outside, and how this machine is reached is not the user's."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for variable in ("PDSH_SSH_ARGS", "PDSH_SSH_ARGS_APPEND", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        monkeypatch.delenv(variable, raising=False)


def test_doctor_looks_at_this_machine_and_leaves_nothing(tmp_path: Path, offline: None, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    results = tmp_path / "some" / "results"
    done = call("doctor", "--results", results, "--json")
    told = json.loads(done.stdout)
    faults = [one for one in told["findings"] if one["level"] == "fault"]
    assert (done.returncode, told["faults"]) == (bool(faults), len(faults)), done.stdout + done.stderr
    by_check = {one["check"]: one for one in told["findings"]}
    assert by_check.keys() >= {"reach", "code", "GPUs", "memory", "results", "caches", "compilers", "hub", "launchers"}
    assert {one["host"] for one in told["findings"]} == {"localhost"} and by_check["results"]["level"] != "fault"
    assert "hf_secret" not in done.stdout and not list(tmp_path.iterdir())
    shown = call("doctor", "--results", results)
    assert shown.stdout.splitlines()[0].split() == ["host", "check", "level", "found", "what", "to", "do"]
    assert shown.stdout.splitlines()[-1].startswith("1 host: ")


def test_doctor_names_results_that_cannot_be_written(tmp_path: Path, offline: None) -> None:
    (tmp_path / "file").write_text("")
    done = call("doctor", "--results", tmp_path / "file" / "results")
    assert done.returncode == 1 and "file/results: Not a directory" in done.stdout, done.stdout


SSH = """#!/bin/sh
for last in "$@"; do :; done
case "$*" in
  *dead.invalid*) sleep 100;;
  *closed.invalid*) echo 'me@closed.invalid: Permission denied (publickey).' >&2; exit 255;;
  *bare.invalid*) exec sh -c "$(echo "$last" | sed "s#$(pwd)#/nowhere#g")";;
  *) exec sh -c "echo Welcome; $last";;
esac
"""


def test_doctor_tells_of_each_host_what_is_wrong_with_it(tmp_path: Path, offline: None, monkeypatch) -> None:
    stub = tmp_path / "bin" / "ssh"
    stub.parent.mkdir()
    stub.write_text(SSH)
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("".join(f"{name}.invalid slots=1\n" for name in ("dead", "closed", "bare", "twin")))
    done = call("doctor", "--hostfile", hostfile, "--results", tmp_path, "--json", cwd=tmp_path)
    assert done.returncode == 1 and not done.stderr, done.stderr
    faults = {one["host"]: one["found"] for one in json.loads(done.stdout)["findings"] if one["check"] == "reach"}
    assert faults.pop("localhost") == "this machine, no host of the hostfile"
    assert faults == {
        "dead.invalid": "ssh: no answer in 8 s",
        "closed.invalid": "ssh: me@closed.invalid: Permission denied (publickey).",
        "bare.invalid": faults["bare.invalid"],
        "twin.invalid": "by ssh, without a password",
    }
    assert faults["bare.invalid"].startswith("the probe: ") and "/nowhere" in faults["bare.invalid"]
    assert not list(tmp_path.glob(".doctor*"))


def test_no_secret_goes_to_other_hosts(monkeypatch) -> None:
    for name, value in (("HF_TOKEN", "hf_secret"), ("NCCL_DEBUG", "INFO"), ("SHELL_OF_MINE", "no")):
        monkeypatch.setenv(name, value)
    given = examine.variables()
    assert (given["HF_TOKEN"], given["NCCL_DEBUG"]) == ("set", "INFO") and "SHELL_OF_MINE" not in given


def test_doctor_needs_a_hostfile_that_is_one(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("# nothing\n")
    wrong_line = tmp_path / "wrong"
    wrong_line.write_text("host slots=two\n")
    for file, expected in (
        (tmp_path / "none", "none: file: No such file"),
        (empty, "empty: file: found no host, expected `host slots=n`"),
        (wrong_line, "wrong: line 1: found 'host slots=two'"),
    ):
        done = call("doctor", "--hostfile", file)
        assert done.returncode == 2 and expected in done.stderr and not done.stdout, done.stderr


def asked(them: RealHosts, results: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[Finding]]:
    """What `bench doctor` gives for these hosts: exit status and findings."""
    for name, value in them.environment.items():
        monkeypatch.setenv(name, value)
    done = call("doctor", "--hostfile", them.hostfile, "--results", results, "--json")
    return done.returncode, [Finding(**one) for one in json.loads(done.stdout)["findings"]]


@needs_hosts
@pytest.mark.full
def test_doctor_on_hosts_in_order_and_on_broken_ones(tmp_path: Path, offline: None, monkeypatch) -> None:
    results = tmp_path / "results"
    results.mkdir()
    with hosts(3, tmp_path / "hosts", slots=[2, 1, 1]) as them:
        first, second, third = them.addresses
        code, found = asked(them, results, monkeypatch)
        assert code == 0, found
        rows = {(one.host, one.check): one.found for one in found if one.level == "ok"}
        for host in them.addresses:
            assert rows[host, "reach"] == "by ssh, without a password"
            assert rows[host, "results"].startswith("written here, read there and back, ")
            assert rows[host, "network"] == f"eth0, reached at {host}"
            assert rows[host, "ports"] == "reaches 2 others on free ports"
        assert rows["localhost", "reach"] == "this machine, no host of the hostfile"

        them.end_sshd(second)
        them.run_in(third, ["mount", "-t", "tmpfs", "tmpfs", str(results)], check=True)
        them.run_in(third, ["ip", "route", "add", "unreachable", first], check=True)
        code, found = asked(them, results, monkeypatch)
        assert code == 1
        faults = {(one.host, one.check): one.found for one in found if one.level == "fault"}
        assert faults.keys() == {(second, "reach")} | {(third, one) for one in ("results", "network", "ports")} | {
            (first, "ports")
        }, faults
        assert "Connection refused" in faults[second, "reach"]
        assert faults[third, "results"] == f"{results} is not shared: what is written here is not there"
        assert faults[third, "network"] == f"no route to {first}"
        assert faults[third, "ports"].startswith(f"{first} on a free port: ")
    assert not list(results.iterdir())
