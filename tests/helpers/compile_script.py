"""Compiles every Triton kernel for an H100, which needs no GPU: its interpreter takes more than its compiler does.

Prints a line of each: its name, and how many fused multiply-adds are in it.
"""

from __future__ import annotations

import re
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bench.kernels.triton import ascent, noise, swap

POINTERS = dict.fromkeys(("keys", "ids", "neighbours", "rows", "token"), "*i64")
POINTERS |= {"mask": "*i1", **dict.fromkeys(("partial", "cosines", "gain"), "*fp32")}
NUMBERS = dict.fromkeys(("tokens", "count", "columns", "hidden"), "i32")
NUMBERS |= dict.fromkeys(("scale", "step_size", "radius", "bound"), "fp32")


def show(name: str, kernel: Any, **constants: Any) -> None:
    """What is not named here is text: bfloat16."""
    types = POINTERS | NUMBERS | dict.fromkeys(constants, "constexpr")
    names = kernel.arg_names
    signature = {name: types.get(name, "*bf16") for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False})
    print(name, len(re.findall(r"\bfma\.", made.asm["ptx"])))


for gaussian in (True, False):
    show("noise", noise._noise, hidden=33, gaussian=gaussian, BLOCK=noise.BLOCK)
for l2 in (True, False):
    sizes = {"hidden": 33, "l2": l2, "project": True, "BLOCK": ascent.BLOCK, "BLOCKS": ascent.BLOCKS}
    show("norms", ascent._norms, **sizes)
    show("step", ascent._step, **sizes, PIECES=64)
    show("step", ascent._step, **sizes, PIECES=64, text=None, shifted=None)
show("swap", swap._swap, BLOCK=64)
