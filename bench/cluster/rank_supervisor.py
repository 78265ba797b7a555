"""Between a launcher and one rank: `python -m bench.cluster.rank_supervisor WORK` starts `python -m <module> WORK`.

A small process that knows no torch. It gives the rank its variables (which so reach every host by no shell), tells the
run how the rank is doing and how it ended, and ends it when the run says so, when the launcher of this host is gone, or
when the run itself is: no rank outlives its run, not even one that is stopped or hangs.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from bench.cluster import heartbeat
from bench.cluster.heartbeat import Beat, Exit
from bench.cluster.run_identity import RunIdentity
from bench.cluster.timeouts import Timeouts

DEVICES = "CUDA_VISIBLE_DEVICES"
LAUNCHER_IS_GONE, RUN_IS_GONE = "its launcher is gone", "the run that started it is gone"
ORDERS = (LAUNCHER_IS_GONE, RUN_IS_GONE)  # why a guard itself ends its rank
# how a launcher tells a rank which one it is, where it is not deepspeed's own
RANKS = {"openmpi": "OMPI_COMM_WORLD_RANK", "slurm": "SLURM_PROCID"}


def main() -> None:
    work = Path(next(argument for argument in sys.argv[1:] if not argument.startswith("--")))
    group = json.loads((work / "group.json").read_text("utf-8"))
    variables = _variables(group, os.environ)
    sys.exit(RankSupervisor(work, group, variables).run(sys.argv[1:]))


def _variables(group: Mapping[str, Any], own: Mapping[str, str]) -> dict[str, str]:
    """Those of the rank: what this host has set goes before what the run sends; see `launchers.base.forwarded`."""
    ranks: list[tuple[str, int]] = [(host, slot) for host, slot in group["ranks"]]
    rank = int(own[RANKS.get(group["launcher"], "RANK")])
    host = ranks[rank][0]
    beside = [one for one, (name, _) in enumerate(ranks) if name == host]  # the ranks on this host
    made = {**group["variables"], **own}
    if group["launcher"] in RANKS:
        made |= {"RANK": str(rank), "LOCAL_RANK": str(beside.index(rank)), "WORLD_SIZE": str(len(ranks))}
        made |= {"LOCAL_SIZE": str(len(beside)), "MASTER_ADDR": group["address"], "MASTER_PORT": str(group["port"])}
    cores = len(os.sched_getaffinity(0))
    sharing = len(beside) if group["alone"] else max(len(beside), group["slots"][host])
    made.setdefault("OMP_NUM_THREADS", str(max(1, cores // sharing)))
    devices: str | None = own.get(DEVICES) if group["launcher"] in RANKS else group["devices"]
    if devices is not None or group["launcher"] in RANKS:
        made[DEVICES] = _devices(devices, [ranks[one][1] for one in beside])
    name = socket.gethostname() if host == "localhost" else host  # records of many machines are compared
    return made | {"BENCH_HOST": name, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}


def _devices(usable: str | None, slots: Sequence[int]) -> str:
    """Those of `slots`, which are numbers within what this host may use; None: all it has, "": none."""
    if usable == "":
        return ""
    known = usable.split(",") if usable else []
    return ",".join(known[one] if one < len(known) else str(one) for one in slots)


class RankSupervisor:
    """Of one rank."""

    def __init__(self, work: Path, group: Mapping[str, Any], variables: dict[str, str]):
        self.work, self.module, self.variables = work, str(group["module"]), variables
        self.timeouts = Timeouts(**group["timeouts"])
        self.lease = Lease(Path(group["lease"]), round(self.timeouts.orphan / self.timeouts.beat))
        self.parent = os.getppid()
        rank = int(variables["RANK"])
        self.beat = Beat(rank, str(group["ranks"][rank][0]))
        self.order = ""  # why the rank has to end

    def run(self, arguments: list[str]) -> int:
        """Until the rank has ended; its exit status, as a shell would give it."""
        before = _oom_kills()
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(one, self._told)
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", self.module, *arguments],
            env={**self.variables, heartbeat.PIPE: str(writing)},
            pass_fds=[writing],
            preexec_fn=_die_with_parent,
        )
        os.close(writing)
        try:
            code = self._until_ended(child, reading)
        finally:
            _kill(child)
        ended = _oom_kills() > before
        heartbeat.write_exit(self.work, Exit(self.beat.rank, self.beat.host, code, self.order, code == -9 and ended))
        heartbeat.write(self.work, self.beat._replace(state=heartbeat.ENDED))
        return code if code >= 0 else 128 - code

    def _until_ended(self, child: subprocess.Popen[bytes], reading: int) -> int:
        process, told, rest = psutil.Process(child.pid), float("-inf"), b""
        while (code := child.poll()) is None:
            rest = self._listen(reading, rest)
            if time.monotonic() - told >= self.timeouts.beat:
                told = time.monotonic()
                with contextlib.suppress(psutil.Error):
                    self.beat = self.beat._replace(state=process.status())
                heartbeat.write(self.work, self.beat)
                self.order = self.order or self._order()
            if self.order:
                _kill(child)
            time.sleep(self.timeouts.look)
        self._listen(reading, rest)
        if code < 0 and not self.order:
            time.sleep(self.timeouts.look)  # what ends the rank and this may reach the rank first
        return code

    def _listen(self, reading: int, rest: bytes) -> bytes:
        """Takes what the rank has told; gives back the line that is not whole yet."""
        with contextlib.suppress(BlockingIOError):
            while content := os.read(reading, 65536):
                *lines, rest = (rest + content).split(b"\n")
                for line in lines:
                    fields = json.loads(line) if line else {}
                    self.beat = self.beat._replace(progress_count=self.beat.progress_count + 1, **fields)
        return rest

    def _order(self) -> str:
        """Why the rank has to end now; "" while it has not."""
        if os.getppid() != self.parent:
            return LAUNCHER_IS_GONE
        if self.lease.gone():
            with contextlib.suppress(OSError):
                (self.work / "group.json").unlink()  # with secrets in it, which nobody else will take away
            return RUN_IS_GONE
        return heartbeat.told_to_stop(self.work)

    def _told(self, number: int, _frame: FrameType | None) -> None:
        self.order = self.order or signal.Signals(number).name


class Lease:
    """Of the run, which touches it as long as it lasts."""

    def __init__(self, file: Path, most: int):
        self.file, self.most = file, most  # looks at it for which it may stay as it is
        self.owner: RunIdentity | None = None
        self.changed, self.looks = 0, 0  # when it was touched last, and how often it was seen like that

    def gone(self) -> bool:
        """Whether the run is. Looks are counted, not seconds: storage that stands still does so for the run, too."""
        self.looks += 1
        try:
            with self.file.open("rb") as file:
                changed = os.fstat(file.fileno()).st_mtime_ns
                self.owner = self.owner or RunIdentity(**json.load(file))
        except FileNotFoundError:
            return True
        except OSError:
            changed = self.changed
        if changed != self.changed:
            self.changed, self.looks = changed, 0
        return self.looks > self.most or (self.owner is not None and self.owner.ended())


def _die_with_parent() -> None:
    """Linux ends the rank with its guard, which may itself be killed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG


def _kill(child: subprocess.Popen[bytes]) -> None:
    """The rank with all it has started."""
    with contextlib.suppress(psutil.Error):
        for one in psutil.Process(child.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                one.kill()
    child.kill()


def _oom_kills() -> int:
    """How many processes the kernel of this host has ended for want of memory."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/vmstat").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("oom_kill ")).split()[1])
    return 0


if __name__ == "__main__":
    main()
