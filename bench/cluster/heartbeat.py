"""What a rank tells while it runs: to its guard through a pipe, and by the guard to the launcher in small files.

A rank may stand still in a collective that never ends, or be stopped: its guard is a process of its own and goes on. No
clock is compared with another: the launcher sees that something changed, and counts seconds by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

PIPE = "BENCH_PULSE"  # the file descriptor on which a rank tells its guard
ENDED = "ended"  # the state of a rank that is no more
WIDTH = 4096  # bytes of a beat's file: written in place, so that a full disk does not silence it


class Beat(NamedTuple):
    """Of one rank, as its guard saw it last."""

    rank: int
    host: str
    cell: str = ""  # "" before the first
    phase: str = ""
    step: int = 0
    steps: int = 0
    trouble: str = ""  # what it waits for, as a disk with no space left for its record
    progress_count: int = 0  # signs of progress since it started
    state: str = ""  # of the process, as psutil has it: running, sleeping, stopped, ...


class Exit(NamedTuple):
    """How a rank ended."""

    rank: int
    host: str
    code: int  # negative: by that signal
    order: str = ""  # why its guard ended it; "" where it ended by itself
    out_of_memory: bool = False  # the kernel ended processes of this host for want of memory at that time


class Pulse:
    """A rank's side. Without a guard it tells nobody."""

    def __init__(self) -> None:
        descriptor = os.environ.get(PIPE)
        self._pipe = int(descriptor) if descriptor else None

    def report(self, **fields: Any) -> None:
        """Fields of a Beat that changed; also a sign of progress."""
        self._write(json.dumps(fields).encode() + b"\n")

    def count_progress(self) -> None:
        """A sign of progress."""
        self._write(b"\n")

    def _write(self, line: bytes) -> None:
        if self._pipe is not None:
            with contextlib.suppress(BlockingIOError):  # the guard is behind and has signs enough
                os.write(self._pipe, line)


pulse = Pulse()


def write(work: Path, beat: Beat) -> None:
    """In place. A disk that cannot be written makes the beat stand still, which is looked into."""
    content = json.dumps(beat._replace(trouble=beat.trouble[:1000])._asdict()).encode().ljust(WIDTH)
    with contextlib.suppress(OSError):
        descriptor = os.open(_beat_file(work, beat.rank), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, content, 0)
        finally:
            os.close(descriptor)


def read(work: Path, ranks: int) -> list[Beat]:
    """Of the ranks that have told something."""
    found: list[Beat] = []
    for rank in range(ranks):
        with contextlib.suppress(OSError, ValueError):  # not there yet, or just being written
            found.append(Beat(**json.loads(_beat_file(work, rank).read_bytes())))
    return found


def write_exit(work: Path, ended: Exit) -> None:
    with contextlib.suppress(OSError):
        (work / f"exit-{ended.rank}.json").write_text(json.dumps(ended._asdict()), "utf-8")


def read_exits(work: Path, beats: list[Beat]) -> list[Exit]:
    """Of the ranks whose beats say that they ended."""
    found: list[Exit] = []
    for rank in (beat.rank for beat in beats if beat.state == ENDED):
        with contextlib.suppress(OSError, ValueError):
            found.append(Exit(**json.loads((work / f"exit-{rank}.json").read_bytes())))
    return found


def stop(work: Path, why: str) -> None:
    """Has every guard of the group end its rank."""
    with contextlib.suppress(OSError):
        (work / "stop").write_text(why, "utf-8")


def told_to_stop(work: Path) -> str:
    """Why the group is to end; "" while it is not.

    The file is there from the start: a file that is not may stay unseen for a minute on NFS.
    """
    try:
        return (work / "stop").read_text("utf-8")
    except OSError:
        return ""


def _beat_file(work: Path, rank: int) -> Path:
    return work / f"beat-{rank}.json"
