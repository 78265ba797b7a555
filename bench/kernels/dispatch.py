"""The operations in the form that a device can run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import torch

from bench.core.settings import InputError, Problem
from bench.kernels import ascent, native, noise, swap
from bench.kernels.ascent import Ascent
from bench.kernels.forms import compiler, unavailable
from bench.kernels.noise import Noise
from bench.kernels.swap import Swap


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
    if problem := unavailable(form, device.type):
        raise InputError("kernels", [Problem(form, problem)])
    if form == "reference":
        return Kernels(form, noise.reference, ascent.reference, swap.reference)
    if form == "compiled":
        try:
            native.library()
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError("kernels", [Problem(form, f"{compiler()} could not build or load it: {error}")]) from error
        return Kernels(form, noise.compiled, ascent.compiled, swap.compiled)
    from bench.kernels.triton import ascent as triton_ascent
    from bench.kernels.triton import noise as triton_noise
    from bench.kernels.triton import swap as triton_swap

    return Kernels(form, triton_noise.noise, triton_ascent.ascent, triton_swap.swap)
