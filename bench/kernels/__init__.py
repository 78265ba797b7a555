"""What perturbations need, in three forms each: a reference in plain PyTorch, compiled for CPUs, Triton for GPUs.

The forms of an operation are tested against each other and against float64 (`checks.py`).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass

import torch

from bench.core.settings import InputError, Problem, unknown
from bench.kernels import ascent, native, noise, swap
from bench.kernels.ascent import Ascent
from bench.kernels.noise import Noise
from bench.kernels.swap import Swap

FORMS = ("reference", "compiled", "triton")


@dataclass(frozen=True)
class Kernels:
    form: str  # one of FORMS
    noise: Noise
    ascent: Ascent
    swap: Swap


def resolve(form: str, device: torch.device) -> Kernels:
    """The operations in `form`; `auto` is the first of triton, compiled and the reference that can run on `device`.

    Raises InputError when `form` cannot run on `device`.
    """
    if form == "auto":
        try:
            return resolve("triton" if device.type == "cuda" else "compiled", device)  # never the interpreter
        except InputError as error:
            print(f"{error}: the reference is used", file=sys.stderr)
            form = "reference"
    if problem := unavailable(form, device):
        raise InputError("kernels", [Problem(form, problem)])
    if form == "reference":
        return Kernels(form, noise.reference, ascent.reference, swap.reference)
    if form == "compiled":
        try:
            native.library()
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError(
                "kernels", [Problem(form, f"{native.compiler()} could not build or load it: {error}")]
            ) from error
        return Kernels(form, noise.compiled, ascent.compiled, swap.compiled)
    from bench.kernels.triton import ascent as triton_ascent
    from bench.kernels.triton import noise as triton_noise
    from bench.kernels.triton import swap as triton_swap

    return Kernels(form, triton_noise.noise, triton_ascent.ascent, triton_swap.swap)


def unavailable(form: str, device: torch.device) -> str | None:
    """Why `form` cannot run on `device`; None where it can."""
    if form not in FORMS:
        return unknown(form, ("auto", *FORMS))
    if form == "compiled":
        if device.type != "cpu":
            return f"found device {device.type}, expected cpu"
        return None if native.compiler() else "found no C++ compiler, expected c++, g++, clang++ or what CXX names"
    if form == "triton":
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed"
        if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            return f"found device {device.type}, expected cuda (or TRITON_INTERPRET=1, for tests)"
    return None
