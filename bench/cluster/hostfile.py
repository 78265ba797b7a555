"""Hostfiles, as deepspeed reads them: `host slots=n` a line."""

from __future__ import annotations

import re
from pathlib import Path

from bench.core import files
from bench.core.settings import InputError, Problem, shown
from bench.core.strict_files import LIMIT

# what ssh, pdsh and `--include` all take for the name of a host and for nothing else: no option, user, port or list
HOST = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}", re.ASCII)
SLOTS = re.compile(r"slots=([1-9][0-9]{0,3})", re.ASCII)


def read_hostfile(hostfile: Path) -> dict[str, int]:
    """Host to slots. InputError names every line that is none."""
    try:
        lines = files.read_text(hostfile, LIMIT).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(str(hostfile), [Problem("file", getattr(error, "strerror", None) or str(error))]) from error
    hosts: dict[str, int] = {}
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        fault = _fault(words, hosts)
        if fault is not None:
            problems.append(Problem(f"line {number}", f"found {shown(line)}, expected `host slots=n`{fault}"))
        else:
            hosts[words[0]] = int(words[1].removeprefix("slots="))
    if not hosts and not problems:
        problems.append(Problem("file", "found no host, expected `host slots=n` a line"))
    if problems:
        raise InputError(str(hostfile), problems)
    return hosts


def _fault(words: list[str], known: dict[str, int]) -> str | None:
    """What is to be said of these words of a line, behind what is expected; None: nothing."""
    if len(words) != 2 or not words[1].startswith("slots="):
        return ""
    host, slots = words
    if not HOST.fullmatch(host):
        return ": a host of letters, digits, - . and _ that begins with no -; user and port belong into ~/.ssh/config"
    if not SLOTS.fullmatch(slots):
        return " with n from 1 to 9999"
    return ", each host once" if host in known else None
