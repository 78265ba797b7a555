"""Hostfiles, as deepspeed reads them: `host slots=n` a line."""

from __future__ import annotations

from pathlib import Path

from bench.settings import InputError, Problem


def include(hostfile: Path, ranks: int) -> str:
    """DeepSpeed's `--include` for the first `ranks` slots of a hostfile: `host1:0,1@host2:0`.

    InputError when it has fewer, or is no hostfile.
    """
    chosen: list[str] = []
    left = ranks
    for host, slots in read_hostfile(hostfile).items():
        take = min(left, slots)
        if take:
            chosen.append(f"{host}:{','.join(map(str, range(take)))}")
            left -= take
    if left:
        raise InputError(str(hostfile), [Problem("slots", f"found {ranks - left}, expected at least {ranks}")])
    return "@".join(chosen)


def read_hostfile(hostfile: Path) -> dict[str, int]:
    """Host to slots. InputError names the line that is none."""
    hosts: dict[str, int] = {}
    try:
        lines = hostfile.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(hostfile), [Problem("file", getattr(error, "strerror", None) or str(error))]) from error
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        slots = words[-1].removeprefix("slots=")
        if len(words) != 2 or words[-1] == slots or not slots.isdigit() or words[0] in hosts:
            message = f"found {line!r}, expected `host slots=n`, each host once"
            raise InputError(str(hostfile), [Problem(f"line {number}", message)])
        hosts[words[0]] = int(slots)
    return hosts
