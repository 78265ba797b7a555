"""Several hosts on one machine, in namespaces of Linux: README.md of this folder says how, and what they cannot show.

Nothing outlives the process that made them, not even when it is killed: every host is a child that dies with it, and
the kernel takes namespaces and links away with their last process.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

SYSTEM = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])  # where sshd and ip are
TOOLS = ("ip", "unshare", "nsenter", "setpriv", "ssh", "sshd", "ssh-keygen", "pdsh")
# ends with its parent, whatever ends that one
CHILD = ("setpriv", "--pdeathsig", "KILL", "unshare", "--net")
SWITCH = "ip link add hub type bridge && ip link set hub up && echo ready && exec sleep infinity"
# a host's first process: a bash that waits also reaps what sshd leaves behind. What is not shared between real hosts
# and would be found here: shared memory, the socket and pid files of services, the boot id
HOST = """
set -e
hostname "$1"
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/shadow" /etc/shadow
mount --bind "$2/$1.boot_id" /proc/sys/kernel/random/boot_id
ip link set lo up
echo ready
sleep infinity & wait
"""
SSHD_CONFIG = """
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
AuthenticationMethods publickey
PermitRootLogin yes
UsePAM no
StrictModes no
MaxStartups 100
PidFile /run/sshd.pid
"""
SSH_CONFIG = """
Host *
User root
IdentityFile {folder}/user_key
IdentitiesOnly yes
BatchMode yes
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
ConnectTimeout 5
LogLevel ERROR
"""


@functools.cache
def missing() -> str:
    """Why there can be no hosts here; empty where there can."""
    absent = [tool for tool in TOOLS if shutil.which(tool, path=SYSTEM) is None]
    if os.geteuid() != 0:
        return "hosts need root"
    if absent:
        return f"hosts need {', '.join(absent)}"
    done = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"hosts need namespaces: {done.stderr.strip()}" if done.returncode else ""


needs_hosts = pytest.mark.skipif(bool(missing()), reason=missing())


@dataclass(frozen=True)
class Host:
    """One of them. `first` is the id, seen from outside, of the process that all others there end with."""

    name: str
    port: str  # the switch's end of its cable
    process: subprocess.Popen[str]
    first: int
    namespace: str  # of its process ids


class Hosts:
    """Made by `hosts`. A host is named by its address."""

    folder: Path  # keys, configurations, logs of sshd
    hostfile: Path
    environment: dict[str, str]  # ours, and what a `bench run --hostfile` here needs to reach them
    addresses: list[str]

    def __init__(self, folder: Path, addresses: Sequence[str], switch: int, hosts: Mapping[str, Host]):
        self.folder, self.addresses, self.hosts, self._switch = folder, list(addresses), dict(hosts), switch
        self.hostfile = folder / "hostfile"
        self.environment = {
            **os.environ,
            "PDSH_SSH_ARGS_APPEND": f"-F {folder}/ssh_config",
            "OMPI_MCA_plm_rsh_agent": f"ssh -F {folder}/ssh_config",
            "GLOO_SOCKET_IFNAME": "eth0",
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
        }

    def cut(self, host: str) -> None:
        """Pulls its cable: nothing arrives any more, nobody is told."""
        _in(self._switch, ["ip", "link", "set", self.hosts[host].port, "down"], "--net")

    def join(self, host: str) -> None:
        """Plugs it in again."""
        _in(self._switch, ["ip", "link", "set", self.hosts[host].port, "up"], "--net")

    def run_in(self, host: str, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs `command` on it, not by way of the network; `options` are those of subprocess.run."""
        return subprocess.run(_inside(self.hosts[host].first, command), text=True, **options)

    def start_in(self, host: str, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """The same without waiting. To kill the result is to leave `command` alone with its host."""
        return subprocess.Popen(_inside(self.hosts[host].first, command), text=True, **options)

    def processes(self, host: str) -> list[psutil.Process]:
        """What runs on it, by ids seen from outside, the first process included."""
        return [process for process in psutil.process_iter() if _namespace(process.pid) == self.hosts[host].namespace]

    def start_sshd(self, host: str) -> None:
        config = self.folder / f"{self.hosts[host].name}.sshd_config"
        config.write_text(SSHD_CONFIG.format(address=host, folder=self.folder))
        sshd = shutil.which("sshd", path=SYSTEM) or "sshd"  # which wants to be called by its full path
        self.run_in(host, [sshd, "-f", str(config), "-E", str(config.with_suffix(".log"))], check=True)

    def end_sshd(self, host: str, sessions: bool = False) -> None:
        """No new connection; with `sessions` the open ones are ended too, what runs in them is left alone."""
        listener = int(self.run_in(host, ["cat", "/run/sshd.pid"], capture_output=True, check=True).stdout)
        for process in self.processes(host):
            if process.name().startswith("sshd") and (sessions or _pid_inside(process.pid) == listener):
                process.kill()

    def power_off(self, host: str) -> None:
        """Ends it with all it runs, for good, and nobody is told."""
        self.cut(host)
        _end(self.hosts[host])


@contextlib.contextmanager
def hosts(count: int, folder: Path, slots: int | Sequence[int] = 1) -> Iterator[Hosts]:
    """`count` hosts with so many slots each, that reach each other and are reached from here; with an empty `folder`
    for their keys. They are named host0, host1 ... and see each other under these names too."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        switch = _start([*CHILD, "sh", "-c", SWITCH])
        stack.callback(_stop, switch)
        network, link = _plug_in_here(switch.pid)
        stack.callback(_unplug, link)
        addresses = [f"{network}.{number + 1}" for number in range(count)]
        names = [f"host{number}" for number in range(count)]
        each = [slots] * count if isinstance(slots, int) else slots
        _write_files(folder, addresses, names, each)
        made = {}
        for address, name in zip(addresses, names, strict=True):
            made[address] = _boot(name, folder)
            stack.callback(_end, made[address])
            _plug_in(switch.pid, made[address], f"{address}/24")
        them = Hosts(folder, addresses, switch.pid, made)
        for address in addresses:
            them.start_sshd(address)
        yield them


def _write_files(folder: Path, addresses: Sequence[str], names: Sequence[str], slots: Sequence[int]) -> None:
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    known = [("127.0.0.1", "localhost"), *zip(addresses, names, strict=True)]
    (folder / "hosts").write_text("".join(f"{address} {name}\n" for address, name in known))
    (folder / "shadow").write_text("root:*:19000:0:99999:7:::\n")  # sshd lets no locked account in, with a key or not
    (folder / "ssh_config").write_text(SSH_CONFIG.format(folder=folder))
    (folder / "hostfile").write_text("".join(f"{a} slots={n}\n" for a, n in zip(addresses, slots, strict=True)))
    for name in names:
        (folder / f"{name}.boot_id").write_text(f"{uuid.uuid4()}\n")


def _boot(name: str, folder: Path) -> Host:
    apart = ("--mount", "--uts", "--ipc", "--pid", "--mount-proc", "--fork", "--kill-child")
    process = _start([*CHILD, *apart, "bash", "-c", HOST, "host", name, str(folder)])
    (first,) = psutil.Process(process.pid).children()
    return Host(name, f"to-{name}", process, first.pid, _namespace(first.pid))


def _end(host: Host) -> None:
    """When its first process is reaped, the kernel has ended all others."""
    with contextlib.suppress(ProcessLookupError):
        if host.process.poll() is None:
            os.kill(host.first, signal.SIGKILL)
    _stop(host.process, kill=False)


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    """One that says `ready`, or what it lacks."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )  # a session of its own: Ctrl-C is for the test, which then ends this
    assert process.stdout is not None
    said = process.stdout.readline()
    if said != "ready\n":
        _stop(process)
        raise RuntimeError(f"{command} says {said!r}, expected 'ready'")
    return process


def _stop(process: subprocess.Popen[str], kill: bool = True) -> None:
    if kill:
        process.kill()
    process.wait(timeout=60)
    assert process.stdout is not None
    process.stdout.close()


def _plug_in_here(switch: int) -> tuple[str, str]:
    """A cable from this machine to the switch, with the address .254 of the first network of ours that nobody uses:
    its first three numbers, and the name of the cable's end here. Who makes a link of that name owns the network."""
    routes = [route["dst"] for route in json.loads(_ip("-4", "-json", "route", "show").stdout)]
    used = [ipaddress.ip_network(route, strict=False) for route in routes if route != "default"]
    for number in range(os.getpid(), os.getpid() + 1000):
        high, low = 64 + number // 256 % 64, number % 256
        network, link = f"10.{high}.{low}", f"bench-{high}-{low}"
        if any(one.overlaps(ipaddress.ip_network(f"{network}.0/24")) for one in used):
            continue
        peer = ("type", "veth", "peer", "name", "uplink", "netns", str(switch))
        if _ip("link", "add", link, *peer).returncode == 0:
            break
    else:
        raise RuntimeError("no free network in 10.64.0.0 to 10.127.255.0")
    _in(switch, ["ip", "link", "set", "uplink", "master", "hub", "up"], "--net")
    for change in (("address", "add", f"{network}.254/24", "dev", link), ("link", "set", link, "up")):
        subprocess.run(["ip", *change], check=True)
    return network, link


def _plug_in(switch: int, host: Host, address: str) -> None:
    peer = ("type", "veth", "peer", "name", "eth0", "netns", str(host.first))
    _in(switch, ["ip", "link", "add", host.port, *peer], "--net")
    _in(switch, ["ip", "link", "set", host.port, "master", "hub", "up"], "--net")
    _in(host.first, ["ip", "address", "add", address, "dev", "eth0"], "--net")
    _in(host.first, ["ip", "link", "set", "eth0", "up"], "--net")


def _unplug(link: str) -> None:
    """The kernel does it too, a while after the switch's end."""
    _ip("link", "del", link)
    end = time.monotonic() + 60
    while Path("/sys/class/net", link).exists():
        assert time.monotonic() < end, f"{link} is left"
        time.sleep(0.05)


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


def _in(process: int, command: Sequence[str], *namespaces: str) -> None:
    subprocess.run(["nsenter", "--target", str(process), *namespaces, "--", *command], check=True)


def _inside(first: int, command: Sequence[str]) -> list[str]:
    namespaces = ("--net", "--mount", "--uts", "--ipc", "--pid", f"--wd={os.getcwd()}")
    return ["nsenter", "--target", str(first), *namespaces, "--", *command]


def _namespace(process: int) -> str:
    """That of its process ids; empty where it is no more, or none that we may know."""
    try:
        return os.readlink(f"/proc/{process}/ns/pid")
    except OSError:
        return ""


def _pid_inside(process: int) -> int:
    """What its own host calls it."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])
