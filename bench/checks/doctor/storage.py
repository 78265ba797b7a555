"""Checks of where a run reads and writes: results, data, caches, the hub."""

from __future__ import annotations

from collections.abc import Iterator

from bench.checks.doctor.facts import Folder
from bench.checks.doctor.findings import Verdict, fault, note, ok, size, warning
from bench.checks.doctor.hosts import Host, Hosts

RESULTS_BYTES = 2**30
CACHE_BYTES = 10 * 2**30


def results(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """Whether records can be written, and whether what one host writes every other one reads."""
    if host.facts is None:
        return
    folder = host.facts.folders["results"]
    elsewhere = any(not one.here for one in hosts.running)
    if folder.problem:
        remedy = "a file system that all hosts share, may write and that has hard links: records and claims are made so"
        yield fault(f"{folder.path}: {folder.problem}", remedy)
    if elsewhere and not folder.problem and not (folder.seen and host.replied):
        missed = "what is written here is not there" if not folder.seen else "what is written there is not here"
        yield fault(f"{folder.path} is not shared: {missed}", "mount one file system at this path on every host")
    if folder.free_bytes is not None and folder.free_bytes < RESULTS_BYTES:
        yield warning(f"{size(folder.free_bytes)} free", "make room: on a full disk a run waits")
    elif not folder.problem and (host.replied or not elsewhere):
        shared = "written here, read there and back, " if elsewhere and not host.here else ""
        yield ok(f"{shared}{size(folder.free_bytes)} free")


def data(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """Whether every host has the same files in BENCH_DATA."""
    facts, here = host.facts, hosts.here.facts
    if facts is None or facts.data_folder is None or host.slots == 0:
        return
    if facts.data is None:
        yield fault(f"BENCH_DATA={facts.data_folder}: no such folder", "copy it there, or put it on the shared storage")
    elif here and here.data is not None and here.data != facts.data:
        found = f"BENCH_DATA={facts.data_folder} has other files than here"
        yield fault(found, "copy it there again: ranks of a cell would see different examples")
    else:
        yield ok(f"BENCH_DATA={facts.data_folder}")


def caches(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """Room for models and features, and whether hosts share it."""
    if host.facts is None or host.slots == 0:
        return
    for name in ("BENCH_CACHE", "HF_HOME"):
        folder = host.facts.folders[name]
        found = f"{name} is {folder.path}, {size(folder.free_bytes)} free{_shared(name, folder, host, hosts)}"
        if folder.problem:
            yield fault(f"{found}: {folder.problem}", f"set {name} to a folder that can be written")
        elif folder.free_bytes is not None and folder.free_bytes < CACHE_BYTES:
            yield warning(found, f"make room, or set {name} to a larger disk: models and features go there")
        else:
            yield ok(found)


def _shared(name: str, folder: Folder, host: Host, hosts: Hosts) -> str:
    """Nothing where nobody knows."""
    if host.here or name not in hosts.planted:
        return ""
    return ", shared" if folder.seen else ", its own: models are fetched to each host"


def hub(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """Whether models and data can be fetched."""
    facts = host.facts
    if facts is None:
        return
    token = f"HF_TOKEN is {'' if facts.hub_token else 'not '}set"
    if facts.offline:
        yield note("HF_HUB_OFFLINE is set: only what is in HF_HOME and BENCH_DATA")
    elif facts.hub is not None:
        remedy = (
            "have models and data in HF_HOME and BENCH_DATA and set HF_HUB_OFFLINE=1, or set HF_ENDPOINT or a proxy"
        )
        yield warning(f"not reached: {facts.hub}", remedy)
    else:
        yield ok(f"reached, {token}")
