"""Checks of what is on a host: code, GPUs, memory, compilers, launchers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.checks.doctor.facts import Facts, Gpu
from bench.checks.doctor.findings import Verdict, fault, note, ok, size, warning
from bench.checks.doctor.hosts import Host, Hosts

RANK_BYTES = 2**29  # a rank of the smallest model has more than that in memory: 560 MiB in results/
COMFORT_BYTES = 2 * 2**30  # a rank of a small model
SHARED_BYTES = 2**28  # a rank's share of /dev/shm, which NCCL takes tens of MiB of
BUSY_SHARE = 0.1  # of a GPU's memory


def code(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """Whether all ranks would run the same: otherwise records say what is not so, if ranks start at all."""
    facts, here = host.facts, hosts.here.facts
    if facts is None:
        return
    missing = [name for name, version in facts.versions.items() if version is None]
    if missing:
        yield fault(f"not installed: {', '.join(missing)}", "pip install -c launch/constraints.txt -e . in its .venv")
    different = list(_different(facts, here)) if here else []
    if different:
        yield fault(", ".join(different), "the same commit and launch/constraints.txt on every host")
    if not missing and not different:
        yield ok(_code(facts))


def _different(facts: Facts, here: Facts) -> Iterator[str]:
    for name, version in facts.versions.items():
        if version != here.versions.get(name) and version is not None:
            yield f"{name} {version} (here {here.versions.get(name) or 'none'})"
    if facts.code != here.code:
        yield f"{_commit(facts)} (here {_commit(here)})"


def _code(facts: Facts) -> str:
    shown = ("promptzero", "python", "torch", "deepspeed")
    return ", ".join([*(f"{name} {facts.versions.get(name)}" for name in shown), _commit(facts)])


def _commit(facts: Facts) -> str:
    changed = ", with changes" if facts.dirty else ""
    return f"commit {facts.commit[:10]}{changed}" if facts.commit else f"sources {facts.code}"


def gpus(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """Whether there is one for each slot, and whether somebody else is on it."""
    facts = host.facts
    if facts is None or host.slots == 0:
        return
    if facts.gpu_problem:
        yield fault(f"nvidia-smi: {facts.gpu_problem}", "see to the driver, or take the host out of the hostfile")
        return
    found = facts.gpus or ()
    if not found:
        yield from _cores(host, facts, hosts)
        return
    wrong = list(_faults(found, host.slots or 0, facts.versions.get("torch") or ""))
    yield from wrong
    if not wrong:
        kinds = sorted({f"{gpu.name}, {size(gpu.total_bytes)}" for gpu in found})
        free = min((gpu.free_bytes for gpu in found if gpu.free_bytes is not None), default=None)
        yield ok(f"{len(found)} ({'; '.join(kinds)}), at least {size(free)} free")


def _faults(found: Sequence[Gpu], slots: int, torch: str) -> Iterator[Verdict]:
    if slots > len(found):
        remedy = f"slots={len(found)} in the hostfile, or see why the others are not there (CUDA_VISIBLE_DEVICES)"
        yield fault(f"{len(found)} for {slots} slots", remedy)
    if "+cpu" in torch:
        yield warning("torch is built without CUDA: cells would run on the CPU", "install torch for CUDA")
    full = [str(number) for number, gpu in enumerate(found) if gpu.free_bytes is not None and gpu.free_bytes < 2**30]
    if full:
        yield fault(f"less than 1 GiB is free on {', '.join(full)}", "end what holds it")
    if busy := [f"{number} ({', '.join(gpu.processes)})" for number, gpu in enumerate(found) if gpu.processes]:
        remedy = "end them, or times and memory are not only this run's"
        yield warning(f"processes of others on {'; '.join(busy)}", remedy)
    elif not full and any(_in_use(gpu) > BUSY_SHARE for gpu in found):
        yield warning("memory is in use by nobody that can be seen", "see nvidia-smi outside the container")


def _in_use(gpu: Gpu) -> float:
    """The share of its memory; 0 where that is not known."""
    return 0.0 if gpu.free_bytes is None or not gpu.total_bytes else 1 - gpu.free_bytes / gpu.total_bytes


def _cores(host: Host, facts: Facts, hosts: Hosts) -> Iterator[Verdict]:
    others = [one.name for one in hosts.running if one.facts and one.facts.gpus]
    if others:
        yield fault(f"none, but {', '.join(others)} has", "hosts with a GPU and without in one hostfile: make two")
    elif host.slots and host.slots > facts.cores:
        yield note(f"no GPU; {host.slots} slots share {facts.cores} cores", "times are of shared cores")
    else:
        yield note(f"no GPU; {facts.cores} cores")


def memory(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """Of the host: what each rank can have."""
    facts = host.facts
    if facts is None or host.slots == 0:
        return
    slots = host.slots or 1
    share, found = facts.memory_bytes // slots, f"{size(facts.memory_bytes)} available"
    if share < RANK_BYTES:
        yield fault(f"{found} for {slots} slots", "fewer slots in the hostfile, or end what holds it")
    elif share < COMFORT_BYTES:
        yield warning(f"{found} for {slots} slots", "a rank of a small model takes 2 GiB; fewer slots")
    else:
        yield ok(found)
    shared = facts.shared_memory_bytes
    if facts.gpus and slots > 1 and shared is not None and shared < SHARED_BYTES * slots:
        remedy = "give the container more (docker run --shm-size=16g), or set NCCL_SHM_DISABLE=1"
        yield warning(f"{size(shared)} free in /dev/shm, over which NCCL talks on one host", remedy)


def compilers(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """For operations that are built on first use: DeepSpeed's AdamW of offloads, kernels of perturbations."""
    facts = host.facts
    if facts is None or host.slots == 0:
        return
    needed = ("C++", "ninja", "nvcc") if facts.gpus else ("C++", "ninja")
    missing = [name for name in needed if facts.tools.get(name) is None]
    if missing:
        remedy = "for offloads to the CPU only, else not needed (on Debian: apt-get install g++ ninja-build)"
        yield warning(f"no {', '.join(missing)}", remedy)
    else:
        yield ok(", ".join(str(facts.tools[name]) for name in needed))


def launchers(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """What can start ranks from here."""
    facts = host.facts
    if facts is None or not host.here:
        return
    found = [name for name in ("pdsh", "mpirun", "srun") if facts.tools.get(name)]
    for problem in hosts.torn:
        yield fault(problem, "move it: remote shells would tear that path")
    elsewhere = any(not one.here for one in hosts.running)
    if elsewhere and "pdsh" not in found:
        remedy = "apt-get install pdsh, or start with another --launcher"
        yield fault(f"no pdsh{'; but ' + ', '.join(found) if found else ''}", remedy)
    else:
        yield ok(", ".join(found)) if found else note("only processes on this machine: no pdsh, mpirun, srun")
