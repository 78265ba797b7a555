"""GPUs of this host, as nvidia-smi tells."""

from __future__ import annotations

import os
import shutil

from bench.checks.doctor.facts import Gpu
from bench.cluster.ssh import run_here

GPUS = "--query-gpu=index,uuid,memory.total,memory.free,name"
PROCESSES = "--query-compute-apps=gpu_uuid,pid,used_memory,process_name"
FORMAT = "--format=csv,noheader,nounits"


def gpus(seconds: float) -> tuple[tuple[Gpu, ...] | None, str | None]:
    """Those that CUDA_VISIBLE_DEVICES leaves, and why there are none; None where nobody can tell in so many seconds."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None, None
    listed, running = run_here([program, GPUS, FORMAT], seconds), run_here([program, PROCESSES, FORMAT], seconds)
    if listed.code != 0:
        said = (listed.error + listed.output).strip().splitlines() or [f"no answer in {seconds:g} s"]
        return (), said[-1]
    return parse(listed.output, running.output, os.environ.get("CUDA_VISIBLE_DEVICES")), None


def parse(listed: str, running: str, visible: str | None) -> tuple[Gpu, ...]:
    """From the lines that nvidia-smi printed; memory is in MiB there, processes are named by their file."""
    names: dict[str, list[str]] = {}
    for line in running.splitlines():
        if len(words := _words(line, 3)) == 4:
            names.setdefault(words[0], []).append(words[3].split("/")[-1])
    found: list[Gpu] = []
    for line in listed.splitlines():
        if len(words := _words(line, 4)) == 5 and _is_visible(words[0], words[1], visible):
            total, free = (int(word) * 2**20 if word.isdigit() else None for word in words[2:4])
            processes = tuple(sorted(names.get(words[1], [])))
            found.append(Gpu(name=words[4], total_bytes=total, free_bytes=free, processes=processes))
    return tuple(found)


def _words(line: str, cuts: int) -> list[str]:
    return [word.strip() for word in line.split(",", cuts)]


def _is_visible(index: str, uuid: str, visible: str | None) -> bool:
    if visible is None:
        return True
    return any(one == index or (one and uuid.startswith(one)) for one in visible.replace(" ", "").split(","))
