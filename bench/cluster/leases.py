"""Which `bench run` works on which cell, where several share a results folder: claims and leases, without locks.

    .run/<run>/lease           who the run is; it touches the file all the while it lasts
    .run/claims/<cell>.<n>     a further name (hard link) of the lease of the run that works on the cell

A claim is made by `link`, which is atomic on NFS too, and holds if a look at the folder afterwards shows nobody else
alive on that cell: of two who make claims at once, the later one sees the other's. So a claim of a run that is gone is
in nobody's way; whoever takes its cell over makes the next number and removes it. Clocks are never compared: a lease
has to change, and how long one may stay as it is is counted in touches of the observer's own lease, so that storage
that stands still for both makes nobody look gone.

A run that stands still for longer than its lease and then goes on may do a cell that another has taken over. The record
written first stays, and what the late run releases is its own claim only.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from bench.cluster.run_identity import RunIdentity
from bench.cluster.timeouts import Timeouts
from bench.core import files


class Leases:
    """The claims of one run, and what it sees of others'; a context manager, in which the lease lasts.

    `run` is the run's own folder below results/.run. OSError when the lease or a claim cannot be written.
    """

    def __init__(self, results: Path, run: Path, timeouts: Timeouts):
        self.folder = results / ".run" / "claims"
        self.lease = run / "lease"
        self._pause = timeouts.touch
        self._most = round(
            timeouts.lease / timeouts.touch
        )  # touches of its own for which another lease may stay as it is
        self._mine: dict[str, Path] = {}  # claim of each cell
        self._seen: dict[str, tuple[int, int]] = {}  # of each other run: its last change, and _touches at that time
        self._touches = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._touch, daemon=True)

    def __enter__(self) -> Leases:
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write(self.lease, json.dumps(asdict(RunIdentity.here(self.lease.parent.name))))
        self._thread.start()
        self._end_leases()
        self.tidy()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Gives back all claims, and ends the lease."""
        for cell in list(self._mine):
            self.release(cell)
        with contextlib.suppress(OSError):
            self.tidy()
        self._over.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self.lease.unlink()

    def claim(self, cell: str) -> bool:
        """Whether this run has `cell` now.

        Another run may have finished it since its record was looked for: look again before it is run.
        """
        if cell in self._mine:
            return True
        others = self._listing().get(cell, {})
        if self._holder(others.values()):
            return False
        self._mine[cell] = self.folder / f"{cell}.{max(others, default=0) + 1}"
        held = False
        try:
            held = files.link(self.lease, self._mine[cell]) and not self._holder(self._listing().get(cell, {}).values())
        finally:
            if not held:
                self.release(cell)
        for gone in others.values() if held else ():
            with contextlib.suppress(OSError):
                os.unlink(gone)
        return held

    def release(self, cell: str) -> None:
        """Lets others have it. A claim that is not this run's any more stays; one that cannot be removed ends with the
        lease."""
        claim = self._mine.pop(cell, None)
        with contextlib.suppress(OSError):
            if claim is not None and files.same_file(claim, self.lease):
                claim.unlink()

    def holder(self, cell: str) -> str | None:
        """Which other run works on it: `user@host, pid 123`."""
        return self._holder(self._listing().get(cell, {}).values())

    def claimed(self) -> dict[str, str]:
        """The cells that other runs work on, with who that is. One look for all of them."""
        known: dict[int, str | None] = {}  # by inode: all claims of a run are one file
        found: dict[str, str] = {}
        for cell, claims in self._listing().items():
            for claim in claims.values():
                if (inode := claim.inode()) not in known:
                    known[inode] = self._holder([claim])
                if (holder := known[inode]) is not None:
                    found[cell] = holder
        return found

    def tidy(self) -> None:
        """Removes the claims of runs that are gone; by way of a claim on their cells, so that nobody else's is hit."""
        for cell in self._listing().keys() - self.claimed().keys() - self._mine.keys():
            if self.claim(cell):
                self.release(cell)

    def _end_leases(self) -> None:
        """Those of runs of this machine that are surely no more: their ranks on other hosts then end at once, instead
        of beside those of this run, whose memory they take."""
        for lease in self.lease.parent.parent.glob("*/lease"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                if RunIdentity(**json.loads(lease.read_bytes())).ended():
                    lease.unlink()

    def _listing(self) -> dict[str, dict[int, os.DirEntry[str]]]:
        """The claims by cell and number."""
        found: dict[str, dict[int, os.DirEntry[str]]] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                cell, _, number = entry.name.rpartition(".")
                if cell and number.isdecimal():
                    found.setdefault(cell, {})[int(number)] = entry
        return found

    def _holder(self, claims: Iterable[os.DirEntry[str]]) -> str | None:
        """The first other run among the owners of `claims` that is not gone."""
        return next((holder for claim in claims if (holder := self._alive(claim)) is not None), None)

    def _alive(self, claim: os.DirEntry[str]) -> str | None:
        """Whose a claim is; None when it is this run's own, or that run is gone, or the claim is."""
        try:
            with open(claim.path, encoding="utf-8", errors="replace") as file:
                changed = os.fstat(file.fileno()).st_mtime_ns
                content = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"unknown ({error.strerror})"  # nothing is taken over from who cannot be read
        try:
            owner = RunIdentity(**json.loads(content))
        except (ValueError, TypeError):
            return None if self._unchanged(claim.name, changed) else "unknown (no lease of this version)"
        if owner.run == self.lease.parent.name or owner.ended() or self._closed(owner):
            return None
        return None if self._unchanged(owner.run, changed) else str(owner)

    def _closed(self, owner: RunIdentity) -> bool:
        """Whether a run's folder or its lease was removed. Its name is known from a claim, so the lease was there."""
        try:
            os.stat(self.lease.parent.parent / Path(owner.run).name / "lease")
        except FileNotFoundError:
            return True
        except OSError:  # another user's folder
            return False
        return False

    def _unchanged(self, run: str, changed: int) -> bool:
        """Whether a lease stayed as it is for as long as one may."""
        before = self._seen.get(run)
        if before is None or before[0] != changed:
            before = self._seen[run] = (changed, self._touches)
        return self._touches - before[1] > self._most

    def _touch(self) -> None:
        """Shows that this run goes on; needs no space on the disk."""
        while not self._over.wait(self._pause):
            with contextlib.suppress(OSError):
                os.utime(self.lease)
                self._touches += 1
