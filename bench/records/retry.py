"""What `bench run --retry` takes away: records by their status, and what stands for a record and is none."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Collection
from pathlib import Path
from typing import get_args

from bench.core.settings import InputError, Problem
from bench.records import store
from bench.records.record import Status

UNREADABLE = "unreadable"  # as `--retry` takes it, beside every status
KNOWN = (*get_args(Status), UNREADABLE)


def forget(results: Path, cells: Collection[str], retry: Collection[str]) -> list[Path]:
    """Takes away the records of `cells` that are to be tried again; what was set aside. InputError: no such status."""
    for status in retry:
        if status not in KNOWN:
            message = f"found {status}, expected one of {', '.join(KNOWN)}"
            raise InputError("command line", [Problem("--retry", message)])
    for name in sorted(store.recorded(results) & set(cells)) if retry else []:
        _forget_one(store.path(results, name), retry)
    wrong = unreadable(results, cells) if UNREADABLE in retry else {}
    return [free for name in wrong if (free := _set_aside(store.path(results, name))) is not None]


def _forget_one(file: Path, retry: Collection[str]) -> None:
    """Read just before, since another run may have tried it again meanwhile: its result must not be lost."""
    try:
        record = store.read(file)
    except (ValueError, OSError):
        return
    if record.status in retry:
        file.unlink(missing_ok=True)


def unreadable(results: Path, cells: Collection[str]) -> dict[str, str]:
    """Of `cells`, those for whose record something else stands: that, and what is wrong with it."""
    found: dict[str, str] = {}
    for name in sorted(store.recorded(results) & set(cells)):
        file = store.path(results, name)
        try:
            store.read(file)
        except (ValueError, OSError) as error:
            if os.path.lexists(file):  # else another run has taken it away
                found[name] = f"{file}: {error}"
    return found


def _set_aside(file: Path) -> Path | None:
    """Gives it another name, under which it is no record: it may be one, of a later version. None: another run did."""
    names = (file.with_name(f"{file.stem}.unreadable-{number}") for number in itertools.count(1))
    free = next(one for one in names if not os.path.lexists(one))
    with contextlib.suppress(FileNotFoundError):
        return file.rename(free)
    return None
