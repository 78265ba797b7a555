"""A Slurm cluster of two nodes on this machine: Debian's slurm-wlm (or what is on PATH) on loopback, as root.

Both nodes are this host under two names, `n1` and `n2`, with two cores each, whatever it has.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NODES = {"n1": 2, "n2": 2}
CONFIGURATION = """
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Cluster:
    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """The environment for Slurm's commands."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *arguments: object, seconds: float = 60, cwd: Path | None = None) -> str:
        """What a command of Slurm's prints; AssertionError when it fails."""
        command = [str(one) for one in arguments]
        done = subprocess.run(
            command, env=self.variables, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self) -> list[str]:
        """The jobs that wait, run or are just ending."""
        return self.call("squeue", "--noheader", "--format=%i %T").splitlines()


class CannotStart(Exception):
    """Slurm does not run here; `str` says why."""


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster whose nodes answer, until the block ends. CannotStart."""
    needed = ("munged", "slurmctld", "slurmd", "srun", "sbatch")
    if missing := [name for name in needed if shutil.which(name) is None]:
        raise CannotStart(f"{', '.join(missing)} not on PATH (Debian: apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        raise CannotStart("slurmd needs root")
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, contextlib.ExitStack() as daemons:
        one = Cluster(Path(name))
        _configure(one.folder)
        authentication = ("--key-file", "munge.key", "--socket", "munge.socket", "--pid-file", "munge.pid")
        daemons.enter_context(
            _daemon(one, "munged", "-F", "--force", *_inside(one, authentication), f"--seed-file={name}/munge.seed")
        )
        daemons.enter_context(_daemon(one, "slurmctld", "-D", "-f", f"{name}/slurm.conf"))
        for node in NODES:
            daemons.enter_context(_daemon(one, "slurmd", "-D", "-f", f"{name}/slurm.conf", "-N", node))
        _wait_until_idle(one)
        try:
            yield one
        finally:
            _cancel(one)


def _configure(folder: Path) -> None:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(1 + len(NODES))]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        controller, *ports = [each.getsockname()[1] for each in sockets]
    host = socket.gethostname().split(".")[0]
    lines = [CONFIGURATION.format(host=host, port=controller, folder=folder)]
    for (node, cores), port in zip(NODES.items(), ports, strict=True):
        lines.append(f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores}\n")
        (folder / node).mkdir()
    (folder / "slurm.conf").write_text("".join(lines))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # must be named, and is not used
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o600)


def _inside(one: Cluster, options: tuple[str, ...]) -> list[str]:
    """`--option`, `name` as `--option=<folder>/name`."""
    return [f"{option}={one.folder / name}" for option, name in zip(options[::2], options[1::2], strict=True)]


@contextlib.contextmanager
def _daemon(one: Cluster, *command: str) -> Iterator[None]:
    """In the foreground, ended with the block; what it says is in a file of its name."""
    name = f"{command[0]}{command[-1] if command[-2] == '-N' else ''}"
    with (one.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=one.variables, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_idle(one: Cluster, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    command = ["sinfo", "--noheader", "--Node", "--format=%N %T"]
    while True:
        done = subprocess.run(command, env=one.variables, capture_output=True, text=True, check=False)
        if sorted(done.stdout.split("\n")[:-1]) == sorted(f"{node} idle" for node in NODES):
            return
        if time.monotonic() > end:
            logs = "\n".join(file.read_text(errors="replace")[-400:] for file in sorted(one.folder.glob("*.log")))
            raise CannotStart(f"its nodes are not idle after {seconds:.0f} s: {done.stdout}{done.stderr}\n{logs}")
        time.sleep(0.2)


def _cancel(one: Cluster, seconds: float = 60) -> None:
    """Ends all jobs, so that nothing of theirs is left when the daemons end."""
    end = time.monotonic() + seconds
    while (jobs := one.jobs()) and time.monotonic() < end:
        one.call("scancel", *(job.split()[0] for job in jobs))
        time.sleep(0.5)
