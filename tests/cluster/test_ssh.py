"""Commands on other hosts, by an ssh of ours that runs them here."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from bench.cluster import network_interfaces, ssh
from bench.cluster.timeouts import Timeouts

SSH = """#!/bin/sh
printf '%s\\n' "$@" > "$SEEN"
for last in "$@"; do :; done
exec sh -c "$last"
"""
CLOCKS = Timeouts(reach=60, step=90, resolve=60)  # whatever else the machine does
QUIET = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the arguments of the stub go, one a line."""
    stub = tmp_path / "bin" / "ssh"
    stub.parent.mkdir()
    stub.write_text(SSH)
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    for variable in ("PDSH_SSH_ARGS", "PDSH_SSH_ARGS_APPEND", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "seen"


@pytest.mark.parametrize(
    "given, appended, expected",
    [
        (None, None, ["-2", "-a", "-x", "far.invalid"]),
        (None, "-p 2222", ["-p", "2222", "-2", "-a", "-x", "far.invalid"]),
        ("-F /some/config -l%u %h", "-q", ["-q", "-F", "/some/config", "-l{user}", "far.invalid"]),
        ("-i /a/key", None, ["-i", "/a/key", "far.invalid"]),
        ("-o X=100%% %h", None, ["-o", "X=100%", "far.invalid"]),
    ],
)
def test_ssh_gets_what_pdsh_would_give_it(given, appended, expected, seen: Path, monkeypatch) -> None:
    for variable, value in (("PDSH_SSH_ARGS", given), ("PDSH_SSH_ARGS_APPEND", appended)):
        if value is not None:
            monkeypatch.setenv(variable, value)
    done = ssh.run_on("far.invalid", ["echo", "a  b", "$HOME", "it's; ls"], seconds=60)
    assert done == ssh.Done(0, "a  b $HOME it's; ls\n", "")
    *options, command = seen.read_text().splitlines()
    expected = [word.replace("{user}", getpass.getuser()) for word in expected]
    assert options == [*QUIET, *expected]
    assert command == """echo 'a  b' '$HOME' 'it'"'"'s; ls'"""


def test_input_and_both_outputs_and_the_code_come_through(seen: Path) -> None:
    text = "täglich\n" * 100_000  # more than a pipe holds
    done = ssh.run_on("far.invalid", ["sh", "-c", "cat; echo broken >&2; exit 7"], seconds=60, stdin=text)
    assert (done.code, done.error) == (7, "broken\n") and done.output == text
    assert not ssh.run_on("far.invalid", ["cat"], seconds=60).output, "stdin is not this terminal's"


def is_alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_does_not_answer_is_ended_with_all_it_started(seen: Path, tmp_path: Path, monkeypatch) -> None:
    script = "sleep 1000 & echo $! > child; echo begun; wait"
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    done = ssh.run_on("far.invalid", ["sh", "-c", script], seconds=5)
    assert (done.code, done.output) == (None, "begun\n")
    assert time.monotonic() - started < 60, "1000 seconds were not waited for"
    child = int((tmp_path / "child").read_text())
    while is_alive(child):  # the kernel takes a moment
        assert time.monotonic() - started < 60, "its child lives"
        time.sleep(0.05)


def test_what_stays_behind_an_ssh_that_has_ended_is_not_waited_for(seen: Path) -> None:
    """As the master that ControlPersist leaves, which keeps standard error open."""
    started = time.monotonic()
    done = ssh.run_on("far.invalid", ["sh", "-c", "sleep 100 & echo $!"], seconds=90)
    psutil.Process(int(done.output)).kill()
    assert done.code == 0 and time.monotonic() - started < 80


def test_reachable_asks_by_ssh_but_not_this_machine(seen: Path, monkeypatch) -> None:
    assert ssh.reachable("localhost", CLOCKS) and ssh.reachable(socket.gethostname(), CLOCKS)
    assert not seen.exists()
    assert ssh.reachable("far.invalid", CLOCKS) and seen.exists()
    (seen.parent / "bin" / "ssh").write_text("#!/bin/sh\nexit 255\n")
    assert not ssh.reachable("far.invalid", CLOCKS)
    monkeypatch.setenv("PATH", str(seen.parent / "nowhere"))
    assert ssh.run_on("far.invalid", ["true"], 60).code == 127 and not ssh.reachable("far.invalid", CLOCKS)


def test_this_machine_is_known_by_all_its_names() -> None:
    own = [one for found in network_interfaces.interfaces().values() for one in found]
    for name in ("localhost", "127.0.0.1", "127.0.1.1", "::1", socket.gethostname(), *own):
        assert network_interfaces.is_here(name, 60), name
    for name in ("far.invalid", "198.51.100.7", "", "x" * 70, "-l"):
        assert not network_interfaces.is_here(name, 60), name


def test_a_name_that_takes_too_long_is_not_here(monkeypatch) -> None:
    told = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [] if told.wait(200) else [])
    assert network_interfaces.addresses_of("slow.invalid", seconds=0.5) == [] and not told.is_set()
    told.set()


def test_address_is_what_the_name_resolves_to_but_not_loopback(seen: Path, monkeypatch) -> None:
    assert ssh.address_of("198.51.100.7", CLOCKS) == "198.51.100.7"
    outer = {name: found for name, found in network_interfaces.interfaces().items() if name != "lo"}
    found = ssh.address_of("localhost", CLOCKS)
    assert found in [one for each in outer.values() for one in each] if outer else found == "127.0.0.1"
    for name, own in outer.items():
        monkeypatch.setenv("NCCL_SOCKET_IFNAME", f"={name}")
        assert ssh.address_of("localhost", CLOCKS) == own[0]
    assert not seen.exists(), "ssh was asked where a name was enough"


def test_address_of_a_name_that_only_ssh_knows(seen: Path) -> None:
    stub = seen.parent / "bin" / "ssh"
    stub.write_text("#!/bin/sh\necho Welcome; echo 10.9.8.7 fd00::7\n")
    assert ssh.address_of("far.invalid", CLOCKS) == "10.9.8.7"
    stub.write_text("#!/bin/sh\nexit 255\n")
    with pytest.raises(OSError, match=r"far\.invalid: its name resolves to no address"):
        ssh.address_of("far.invalid", CLOCKS)


@pytest.mark.parametrize(
    "value, expected",
    [
        ("eth", ["eth0", "eth1"]),
        ("=eth1", ["eth1"]),
        ("eth1,ib", ["eth1", "ib0"]),
        ("^eth,docker", ["ib0", "lo"]),
        ("^=eth0", ["eth1", "ib0", "docker0", "lo"]),
        ("wlan", []),
        ("", []),
    ],
)
def test_interfaces_are_named_as_nccl_reads_it(value: str, expected: list[str]) -> None:
    assert network_interfaces.named_interfaces(value, ["eth0", "eth1", "ib0", "docker0", "lo"]) == expected


@pytest.mark.skipif(subprocess.run(["which", "pdsh"], capture_output=True).returncode != 0, reason="no pdsh here")
@pytest.mark.parametrize("given", [None, "-F /some/config -l%u %h", "-i /a/key"])
def test_pdsh_itself_gives_the_same(given: str | None, seen: Path, monkeypatch) -> None:
    monkeypatch.setenv("PDSH_SSH_ARGS_APPEND", "-p 2222")
    if given is not None:
        monkeypatch.setenv("PDSH_SSH_ARGS", given)
    subprocess.run(["pdsh", "-R", "ssh", "-w", "far.invalid", "true"], capture_output=True, check=False, timeout=60)
    theirs = [word for word in seen.read_text().splitlines() if not word.startswith("-oConnectTimeout")]
    assert ["ssh", *QUIET, *theirs[:-1]] == ssh.ssh_command("far.invalid")
