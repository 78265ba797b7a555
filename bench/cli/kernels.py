"""`bench kernels`: check every form that runs here, time it, show and keep what was found."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench.cli.terminal import print_table, say
from bench.core import files
from bench.core.settings import InputError, Problem
from bench.kernels.checks import Check, Shape, check
from bench.kernels.dispatch import resolve
from bench.kernels.forms import FORMS, unavailable
from bench.kernels.timing import Timing, copy_bandwidth, measure
from bench.records import environment

CHECKED: tuple[Shape, ...] = ((1, 1, 1), (2, 7, 33), (2, 64, 1000), (8, 128, 1024))
TIMED: dict[str, tuple[Shape, ...]] = {"cpu": ((32, 128, 1024),), "cuda": ((32, 128, 1024), (256, 512, 1024))}
DTYPES = (torch.float32, torch.bfloat16)
HEAD = ("operation", "form", "dtype", "shape", "ms", "MB", "GB/s", "of copy", "times eager")


def command(results: Path, device_name: str | None, as_json: bool) -> int:
    """The exit status: 1 when a check fails, and then nothing is timed."""
    device = chosen(device_name)
    # the interpreter is for tests: it checks slowly, and its times say nothing
    forms = [
        resolve(form, device)
        for form in FORMS
        if unavailable(form, device.type) is None and (form != "triton" or device.type == "cuda")
    ]
    console = Console(soft_wrap=True, stderr=as_json)
    checks = [
        one for form in forms for shape in CHECKED for dtype in DTYPES for one in check(form, shape, dtype, device)
    ]
    wrong = [one for one in checks if not one.right]
    for one in wrong:
        say(console, f"wrong: {one}")
    say(console, f"{len(checks) - len(wrong)} of {len(checks)} checks hold: {', '.join(form.form for form in forms)}")
    timings: list[Timing] = []
    copy = None
    if not wrong:
        copy = copy_bandwidth(device)
        for shape in TIMED[device.type]:
            for dtype in DTYPES:
                timings += measure(forms, shape, dtype, device, copy)
    content = plain(device, checks, timings, copy)
    accelerator = content["environment"]["accelerator"]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", accelerator).strip("-")
    files.write(results / "kernels" / f"{name}.json", json.dumps(content, indent=1) + "\n")
    if as_json:
        print(json.dumps(content, indent=1))
    elif copy is not None:
        say(console, f"{accelerator}, {torch.get_num_threads()} threads, copy {copy / 1e9:.1f} GB/s")
        show(timings, console)
    return 1 if wrong else 0


def chosen(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        device = None
    if device is None or device.type not in TIMED or (device.type == "cuda" and not torch.cuda.is_available()):
        expected = "cuda or cpu" if torch.cuda.is_available() else "cpu, as there is no GPU here"
        raise InputError("kernels", [Problem("device", f"found {name!r}, expected {expected}")])
    return device


def plain(device: torch.device, checks: list[Check], timings: list[Timing], copy: float | None) -> dict[str, Any]:
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    where = environment.describe([socket.gethostname()], accelerator, torch.get_num_threads(), "none")
    return {
        "environment": where.model_dump(mode="json"),
        "copy_bytes_per_second": copy,
        "checks": {"right": sum(one.right for one in checks), "wrong": [str(one) for one in checks if not one.right]},
        "timings": [asdict(timing) for timing in timings],
    }


def show(timings: list[Timing], console: Console) -> None:
    rows = [
        (
            one.operation,
            one.form,
            one.dtype,
            "x".join(map(str, one.shape)),
            f"{one.milliseconds:.2f}",
            f"{one.bytes_moved / 1e6:.0f}",
            f"{one.bandwidth / 1e9:.1f}",
            f"{100 * one.copy_share:.0f} %",
            f"{one.times_eager:.2f}",
        )
        for one in timings
    ]
    print_table(HEAD, rows, console, right=HEAD[4:])
