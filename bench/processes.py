"""A command and all it starts, ended together whatever happens: no rank outlives `bench run`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path


@contextlib.contextmanager
def processes(
    arguments: list[str], log_file: Path, variables: dict[str, str]
) -> Generator[subprocess.Popen[bytes], None, None]:
    """The launcher and its ranks in one session, which ends with this block whatever happens."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            arguments,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=variables,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with _deaf():
                for ending in (signal.SIGTERM, signal.SIGKILL):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, ending)
                        _wait(process, seconds=10)
                process.wait()


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_on_signals() -> None:
    """Makes SIGTERM and SIGHUP stop a run as Ctrl-C does: by KeyboardInterrupt, with all its ranks."""
    for one in STOPS:
        signal.signal(one, signal.default_int_handler)


@contextlib.contextmanager
def _deaf() -> Generator[None, None, None]:
    """A second Ctrl-C must not leave ranks behind."""
    before = [signal.signal(one, signal.SIG_IGN) for one in STOPS]
    try:
        yield
    finally:
        for one, handler in zip(STOPS, before, strict=True):
            signal.signal(one, handler)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until no process of the session is left, at most so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        process.poll()
        os.killpg(process.pid, 0)  # ProcessLookupError: none left
        time.sleep(0.05)
