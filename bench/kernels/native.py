"""cpp/ built for this machine's processor and called through ctypes."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import platform
import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.core import files
from bench.kernels import forms
from bench.kernels.philox import ROUNDS

SOURCES = Path(__file__).parent / "cpp"
# no contraction: a fused multiply-add gives other bits; the last two let square roots and choices be vectorised
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")


@functools.cache
def library() -> ctypes.CDLL:
    """Built once a machine, a second or two.

    OSError or CalledProcessError when the compiler fails; what it says goes to stderr.
    """
    found = forms.compiler()
    assert found is not None, "resolve() has asked"
    sources = sorted(SOURCES.iterdir())
    command = [*shlex.split(found), *FLAGS, f"-DROUNDS={ROUNDS}", "-pthread", "-shared", "-fPIC"]
    built = files.cache() / f"kernels-{_fingerprint(command, sources)}.so"
    if not built.is_file():
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / built.name
            subprocess.run([*command, *(str(f) for f in sources if f.suffix == ".cpp"), "-o", str(made)], check=True)
            files.write(built, made.read_bytes())  # several processes may build it at once
    return ctypes.CDLL(str(built))


def _fingerprint(command: list[str], sources: Sequence[Path]) -> str:
    """Of all that the machine code depends on, so that hosts of another kind do not meet it in a shared folder."""
    about = Path("/proc/cpuinfo")
    processors = re.findall(r"^(?:model name|flags|Features)\b.*", about.read_text(), re.M) if about.is_file() else []
    machine = [platform.machine(), platform.processor(), *sorted(set(processors))]
    digest = hashlib.sha256(repr([command, machine]).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


Argument = Tensor | None | bool | int | ctypes.c_float | ctypes.c_double


def call(name: str, dtype: torch.dtype, *arguments: Argument) -> None:
    """`name` for `dtype`, fp32 or fp64, with as many threads as PyTorch has; tensors are contiguous and on the CPU."""
    function = getattr(library(), f"{name}_{str(dtype).removeprefix('torch.')}")
    function(*map(_plain, [*arguments, torch.get_num_threads()]))


def computed_in(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def contiguous(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [tensor.detach().to(dtype).contiguous() for tensor in tensors]


def _plain(argument: Argument) -> object:
    if isinstance(argument, Tensor):
        assert argument.is_contiguous() and argument.device.type == "cpu", (argument.stride(), argument.device)
        return ctypes.c_void_p(argument.data_ptr())
    if argument is None:
        return ctypes.c_void_p(None)
    if isinstance(argument, bool):
        return ctypes.c_bool(argument)
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument
