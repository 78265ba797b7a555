"""The command `bench doctor`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from bench.checks.doctor.checks import check
from bench.checks.doctor.examine import examine
from bench.checks.doctor.findings import Finding
from bench.cli.terminal import print_table
from bench.cluster.hostfile import read_hostfile
from bench.cluster.timeouts import Timeouts
from bench.core.settings import InputError, Problem

FIT, UNFIT = 0, 1  # exit status
HEAD = ("host", "check", "level", "found", "what to do")


def command(hostfile: Path | None, results: Path, timeouts: Timeouts, as_json: bool) -> int:
    """Asks every host, prints what is found; the exit status. InputError when the hostfile is none."""
    slots = read_hostfile(hostfile) if hostfile else {}
    if hostfile and not any(slots.values()):
        raise InputError(str(hostfile), [Problem("slots", "found none, expected `host slots=n`")])
    found = check(examine(slots, results.absolute(), timeouts))
    if as_json:
        print(json.dumps({"findings": [asdict(one) for one in found], "faults": counts(found)["fault"]}, indent=1))
    else:
        print_table(HEAD, [[one.host, one.check, one.level, one.found, one.remedy] for one in found])
        print(summary(found))
    return UNFIT if counts(found)["fault"] else FIT


def counts(found: list[Finding]) -> Counter[str]:
    return Counter(one.level for one in found)


def summary(found: list[Finding]) -> str:
    """One line: how much is wrong, and what that means."""
    number, hosts = counts(found), len({one.host for one in found})
    said = [f"{number[level]} {level}{'s' if number[level] != 1 else ''}" for level in ("fault", "warning", "note")]
    end = "a run would fail" if number["fault"] else "fit to run"
    return f"{hosts} host{'s' if hosts != 1 else ''}: {', '.join(said)}; {end}"
