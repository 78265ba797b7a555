"""Milliseconds of every form, side by side, and how near they come to what the memory can do.

All forms of an operation are timed in turn, round by round, so that what disturbs the machine disturbs all alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.kernels import ascent, noise, swap
from bench.kernels.checks import Shape
from bench.kernels.dispatch import Kernels

BEYOND_CACHE = {"cpu": 2**28, "cuda": 2**31}  # bytes of a tensor
ROUNDS = {"cpu": 9, "cuda": 31}
VOCABULARY, NEIGHBOURS = 8192, 16


@dataclass(frozen=True)
class Timing:
    operation: str
    form: str  # of FORMS; eager is what is written without a kernel
    dtype: str
    shape: Shape
    milliseconds: float
    bytes_moved: int
    times_eager: float
    copy_share: float  # of the bandwidth of a copy beyond the cache

    @property
    def bandwidth(self) -> float:
        """Bytes a second."""
        return 1000 * self.bytes_moved / self.milliseconds


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second of copy_, read and written."""
    source = torch.ones(BEYOND_CACHE[device.type] // 4, device=device)
    target = torch.empty_like(source)
    (milliseconds,) = side_by_side([lambda: target.copy_(source)], device)
    return 1000 * 2 * source.nbytes / milliseconds


def side_by_side(functions: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """Median milliseconds of each, after one round that is not counted."""
    taken: list[list[float]] = [[] for _ in functions]
    for turn in range(ROUNDS[device.type] + 1):
        for function, times in zip(functions, taken, strict=True):
            milliseconds = timed(function, device)
            if turn:
                times.append(milliseconds)
    return [statistics.median(times) for times in taken]


def timed(function: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        function()
        return 1000 * (time.perf_counter() - start)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


@dataclass(frozen=True)
class Operation:
    """What is timed. Bytes are what the fastest way known must move beyond the cache."""

    name: str
    eager: Callable[[], object]
    form: Callable[[Kernels], Callable[[], object]]
    bytes_moved: int


def operations(shape: Shape, dtype: torch.dtype, device: torch.device) -> list[Operation]:
    """Noise reads and writes the text. An ascent reads delta and gradient for the norms and again for the step, and
    writes once; for linf the norm is of the gradient alone. A swap reads its gradient, its own and its neighbours'
    embeddings.
    """
    B, T, H = shape
    text, gradient = (torch.randn(shape, device=device, dtype=dtype) for _ in range(2))
    delta = 0.1 * gradient / (T * H) ** 0.5
    mask = torch.ones(B, T, dtype=torch.bool, device=device)
    keys = torch.arange(B, device=device)
    embeddings = torch.randn(VOCABULARY, H, device=device, dtype=dtype)
    ids = torch.randint(0, VOCABULARY, (B, T), device=device)
    table = swap.nearest(embeddings, torch.arange(VOCABULARY, device=device), NEIGHBOURS, mask.new_ones(VOCABULARY))
    size = text.numel() * text.element_size()

    def written_by_hand() -> Tensor:
        return text + 0.01 * torch.randn_like(text) * mask[..., None]

    def step(norm: ascent.Norm) -> Callable[[Kernels], Callable[[], object]]:
        return lambda kernels: lambda: kernels.ascent(delta, gradient, mask, 0.1, 0.2, norm)

    def law(law: noise.Law) -> Callable[[Kernels], Callable[[], object]]:
        return lambda kernels: lambda: kernels.noise(text, mask, 0.01, keys, law)

    def swapped(kernels: Kernels) -> Callable[[], object]:
        return lambda: kernels.swap(gradient, ids, mask, embeddings, table, -1.0)

    plain = Kernels("reference", noise.reference, ascent.reference, swap.reference)
    return [
        Operation("noise gaussian", written_by_hand, law("gaussian"), 2 * size),
        Operation("ascent l2", step("l2")(plain), step("l2"), 5 * size),
        Operation("ascent linf", step("linf")(plain), step("linf"), 4 * size),
        Operation("swap", swapped(plain), swapped, (2 + NEIGHBOURS) * size),
    ]


def measure(
    forms: Sequence[Kernels], shape: Shape, dtype: torch.dtype, device: torch.device, copy: float
) -> list[Timing]:
    """Every operation in every form; `copy` is the bandwidth of a copy."""
    made: list[Timing] = []
    for operation in operations(shape, dtype, device):
        rows = {"eager": operation.eager} | {kernels.form: operation.form(kernels) for kernels in forms}
        if operation.name != "noise gaussian":
            del rows["eager"]  # the reference is what one writes
        times = dict(zip(rows, side_by_side(list(rows.values()), device), strict=True))
        eager = times.get("eager", times["reference"])
        made += [
            Timing(
                operation=operation.name,
                form=form,
                dtype=str(dtype).removeprefix("torch."),
                shape=shape,
                milliseconds=milliseconds,
                bytes_moved=operation.bytes_moved,
                times_eager=eager / milliseconds,
                copy_share=1000 * operation.bytes_moved / milliseconds / copy,
            )
            for form, milliseconds in times.items()
        ]
    return made
