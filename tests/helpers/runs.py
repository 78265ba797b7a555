"""`bench` as a process, and what can be seen of a run from outside."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psutil

from bench.cli import main
from bench.cluster import heartbeat, processes
from bench.records import store
from bench.records.record import Record

# for ranks: models this small lose more to a second thread than it gives, and what DeepSpeed would have compiled as it
# is imported is never called; torch's compiler alone takes seconds to import
QUICK = {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
STAGES = ["zero0", "zero1", "zero2", "zero3"]


def bench(
    *arguments: str | Path, cwd: Path | None = None, module: str = "bench", **own: str
) -> subprocess.CompletedProcess[str]:
    """`bench` to its end. `module`: light_run, where ranks compute nothing; `own`: variables beside this process's."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    variables = {**os.environ, **QUICK, **own}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables, check=False)


def workers(results: Path) -> list[psutil.Process]:
    """The ranks that serve cells into `results`, in the order of ranks."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if (
            {"bench.training.worker", "light_worker"} & set(line)
            and any(str(results) in word for word in line)
            and any("local_rank" in w for w in line)
        ):
            found.append((next(word for word in line if "local_rank" in word), process))
    return [process for _, process in sorted(found, key=lambda pair: pair[0])]


def by_name(results: Path) -> dict[str, Record]:
    reading = store.read_all(results)
    assert not reading.unreadable
    return {record.name: record for record in reading.records}


@contextmanager
def started(file: Path, results: Path, module: str = "bench", **own: str) -> Iterator[subprocess.Popen[str]]:
    """`bench run`, ended with the test. `module` and `own` as in `bench`."""
    command = [sys.executable, "-m", module, "run", str(file), "--results", str(results)]
    told: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, env={**os.environ, **QUICK, **own}, **told)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for rank in workers(results):
            rank.kill()


def wait_for(condition: Callable[[], object], seconds: float = 900, why: Callable[[], str] | None = None) -> None:
    """`why`: what is said when it is waited for in vain."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, why() if why else "waited in vain"
        time.sleep(0.05)


def running(results: Path) -> tuple[str, str, int]:
    """(cell, phase, step) of rank 0, of the process group that told something last."""
    files = sorted(results.glob(".run/*/*/beat-0.json"), key=lambda file: file.stat().st_mtime)
    told = heartbeat.read(files[-1].parent, 1) if files else []
    return (told[0].cell, told[0].phase, told[0].step) if told else ("", "", 0)


def in_training(results: Path) -> bool:
    """Whether a cell without a record trains."""
    cell, phase, step = running(results)
    return phase == "train" and step > 0 and cell not in store.recorded(results)


def call(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """This runs `bench` in the test's own process, which saves the start of another. An exception reaches the test."""
    words, folder = ["bench", *map(str, arguments)], Path.cwd()
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code: object = None
    with unchanged(), redirect_stdout(out), redirect_stderr(err):
        sys.argv = words
        os.chdir(cwd or folder)
        try:
            main.main()
        except SystemExit as ended:
            code = ended.code
        finally:
            os.chdir(folder)
    status = code if isinstance(code, int) else int(code is not None)
    return subprocess.CompletedProcess(words, status, *(one.buffer.getvalue().decode() for one in (out, err)))


@contextmanager
def unchanged() -> Iterator[None]:
    """Everything that a command changes here is restored: arguments, handlers of signals, garbage collection."""
    arguments, collects = sys.argv, gc.isenabled()
    handlers = {one: signal.getsignal(one) for one in processes.STOPS}
    try:
        yield
    finally:
        sys.argv = arguments
        for one, handler in handlers.items():
            signal.signal(one, handler)
        if collects:
            gc.enable()
