"""Hostfiles, as deepspeed reads them: `host slots=n` a line."""

from __future__ import annotations

from pathlib import Path

from bench.settings import InputError, Problem


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
