"""Asks every host, all at once, and each for a limited time."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from bench.checks.doctor import meeting, probe
from bench.checks.doctor.facts import Facts, Request
from bench.checks.doctor.hosts import Host, Hosts
from bench.checks.doctor.meeting import Invitation
from bench.checks.doctor.probe import hugging_face_home
from bench.cluster.launchers.base import forwarded, plain
from bench.cluster.ssh import Done, address_of, is_here, run_here, run_on
from bench.cluster.timeouts import Timeouts
from bench.core import files
from bench.core.redaction import SECRET
from bench.core.settings import InputError


def examine(slots: Mapping[str, int], results: Path, timeouts: Timeouts) -> Hosts:
    """What is known of the hosts of a hostfile, and of this machine; of this one alone where there are none."""
    own = _each(functools.partial(is_here, seconds=timeouts.resolve), slots)
    found = [Host(name, slots[name], here) for name, here in zip(slots, own, strict=True)]
    if not any(host.here for host in found):
        found.append(Host("localhost", 0 if slots else None, here=True))
    hosts = _each(functools.partial(_greeted, hosts=found, timeouts=timeouts), found)
    with _planted(results) as (token, planted):
        hosts = _each(functools.partial(_probed, hosts=hosts, results=results, token=token, timeouts=timeouts), hosts)
    every = _each(functools.partial(_met, hosts=hosts, timeouts=timeouts), hosts)
    torn = _torn(results) if any(not host.here for host in every) else []
    return Hosts(tuple(every), planted, tuple(torn))


def _torn(results: Path) -> Iterator[str]:
    """Paths that the remote shells of a launcher would tear."""
    for what, path in (("the current folder", Path.cwd()), ("python", Path(sys.executable)), ("--results", results)):
        try:
            plain(path, what)
        except InputError as error:
            yield str(error.problems[0])


T = TypeVar("T")
R = TypeVar("R")


def _each(ask: Callable[[T], R], hosts: Collection[T]) -> list[R]:
    """Of really all at once, since they meet; in their order."""
    with ThreadPoolExecutor(max(1, len(hosts))) as pool:
        return list(pool.map(ask, hosts))


def _by_ssh(host: Host, hosts: list[Host]) -> bool:
    """Whether a run would go there by ssh: pdsh starts also the ranks that are here so, if there are others."""
    return not host.here or (bool(host.slots) and len(hosts) > 1)


def _greeted(host: Host, hosts: list[Host], timeouts: Timeouts) -> Host:
    """With its address, and what ssh and its clock said."""
    if _by_ssh(host, hosts):
        host = _asked(host, timeouts.greet)
    if host.unreachable and not host.here:
        return host
    with contextlib.suppress(OSError):
        host = replace(host, address=address_of(host.name, timeouts))
    return host


def _asked(host: Host, seconds: float) -> Host:
    begun = time.time()
    done = run_on(host.name, ["date", "+%s.%N"], seconds)
    ended = time.time()
    if done.code != 0:
        return replace(host, unreachable=_said(done, seconds))
    with contextlib.suppress(ValueError, IndexError):
        there = float(done.output.split()[-1])
        return replace(host, clock=(there - ended, there - begun))
    return host


def _probed(host: Host, hosts: list[Host], results: Path, token: str, timeouts: Timeouts) -> Host:
    """With the facts that the probe finds on it. This machine answers also where ssh does not reach it."""
    if host.unreachable and not host.here:
        return host
    reply = secrets.token_hex(8)
    others = {one.name: one.address for one in hosts if one is not host and one.address and one.slots != 0}
    request = Request(
        results=str(results), token=token, reply=reply, variables=variables(), others=others, timeouts=timeouts
    )
    done = _run(host, probe.__name__, request.model_dump_json(), timeouts.answer)
    replied = _take(results / f".doctor-{reply}", reply)
    if done.code != 0:
        return replace(host, broken=_said(done, timeouts.answer))
    try:
        return replace(host, facts=Facts.model_validate_json(_last_line(done)), replied=replied)
    except ValidationError:
        return replace(host, broken=f"found {_last_line(done)[:60]!r}, as another version of promptzero may answer")


def _met(host: Host, hosts: list[Host], timeouts: Timeouts) -> Host:
    """With what came of connecting to all other hosts of the run."""
    guests = [one for one in hosts if one.facts and one.address and one.slots]
    if host not in guests or len(guests) < 2:
        return host
    assert host.facts is not None
    others = {
        one.name: (one.address, one.facts.port) for one in guests if one is not host and one.address and one.facts
    }
    invitation = Invitation(name=host.name, port=host.facts.port, others=others, timeouts=timeouts)
    done = _run(host, meeting.__name__, invitation.model_dump_json(), timeouts.answer)
    try:
        return replace(host, met=json.loads(_last_line(done)))
    except ValueError:
        return replace(host, met=dict.fromkeys(others, _said(done, timeouts.answer)))


def _run(host: Host, module: str, stdin: str, seconds: float) -> Done:
    """A module of ours on a host, started as deepspeed starts ranks: in this folder, by this Python."""
    path = os.environ.get("PYTHONPATH")
    start = ["env", f"PYTHONPATH={path}", sys.executable] if path else [sys.executable]
    command = ["sh", "-c", 'cd "$0" && exec "$@"', str(Path.cwd()), *start, "-m", module]
    return run_here(command, seconds, stdin) if host.here else run_on(host.name, command, seconds, stdin)


def _said(done: Done, seconds: float) -> str:
    """The last line of an error."""
    if done.code is None:
        return f"no answer in {seconds:g} s"
    lines = [line.strip() for line in (done.output + "\n" + done.error).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {done.code}"


def _last_line(done: Done) -> str:
    """What shells print at their start comes before."""
    return (done.output.strip().splitlines() or [""])[-1]


def variables() -> dict[str, str]:
    """What a run would give its ranks, secrets replaced."""
    return {name: "set" if SECRET.search(name) else value for name, value in forwarded(os.environ).items()}


@contextlib.contextmanager
def _planted(results: Path) -> Generator[tuple[str, frozenset[str]], None, None]:
    """A token, and in which of the folders it lies meanwhile. Folders that are made for it are gone afterwards."""
    token = secrets.token_hex(8)
    made = [one for one in (results, *results.parents) if not one.exists()]
    with contextlib.suppress(OSError):
        results.mkdir(parents=True, exist_ok=True)
    folders = {"results": results, "BENCH_CACHE": files.cache(), "HF_HOME": hugging_face_home()}
    planted: set[str] = set()
    try:
        for name, folder in folders.items():
            with contextlib.suppress(OSError):
                (folder / f".doctor-{token}").write_text(token)
                planted.add(name)
        yield token, frozenset(planted)
    finally:
        for name in planted:
            _take(folders[name] / f".doctor-{token}", token)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _take(file: Path, content: str) -> bool:
    """Whether a file is here and holds `content`; it is removed."""
    try:
        right = file.read_text() == content
        file.unlink()
        return right
    except (OSError, UnicodeDecodeError):
        return False
