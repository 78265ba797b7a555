"""A command and all it starts, ended together whatever happens: no rank outlives `bench run`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

from bench.cluster.timeouts import Timeouts

LOOK_SECONDS = 0.05  # between two looks at what has to end, which a look costs nothing
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Session:
    """What starts the ranks of a group here, in a session of its own with all that it starts."""

    def __init__(self, arguments: list[str], log_file: Path, variables: dict[str, str], timeouts: Timeouts):
        self._timeouts = timeouts
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                arguments,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=variables,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """The exit status of the command; None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """To all of the session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def end(self, seconds: float) -> None:
        """What is left of the session has so long to end by itself, then it is killed."""
        with ignore_stop_signals():
            if not self._wait(seconds):
                self.signal(signal.SIGKILL)
                self._wait(self._timeouts.killed)
            self._process.wait()

    def _wait(self, seconds: float) -> bool:
        """Until no process of the session is left, at most so long; whether none is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._process.poll()
            try:
                os.killpg(self._process.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(LOOK_SECONDS)
        return False


def stop_on_signals() -> None:
    """Makes SIGTERM and SIGHUP stop a run as Ctrl-C does: by KeyboardInterrupt, with all its ranks.

    A SIGHUP that is ignored stays so: nohup means it.
    """
    for one in STOPS:
        if one is not signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, signal.default_int_handler)


@contextlib.contextmanager
def ignore_stop_signals() -> Generator[None, None, None]:
    """A second Ctrl-C must not leave ranks behind."""
    before = [signal.signal(one, signal.SIG_IGN) for one in STOPS]
    try:
        yield
    finally:
        for one, handler in zip(STOPS, before, strict=True):
            signal.signal(one, handler)
