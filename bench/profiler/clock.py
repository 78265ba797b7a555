"""Seconds by phase, and the times of training steps in a window that leaves out warm-up and evaluation.

Throughput is what went through in the window over its wall time, with the device synchronised at its ends; no
step is synchronised by itself.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bench.models.stack.operation_counter import Operations
from bench.profiler import devices, nvml
from bench.profiler.efficiency import Share
from bench.records.record import Quantiles


@dataclass
class PhaseClock:
    """Wall seconds by phase, added up; `current` is the phase that runs."""

    now: Callable[[], float] = time.perf_counter
    seconds: dict[str, float] = field(default_factory=dict)
    current: str = "load"

    @contextlib.contextmanager
    def phase(self, name: str) -> Generator[None, None, None]:
        """A phase within another is taken out of it. A phase that raises stays `current`."""
        outer, self.current = self.current, name
        start, before = self.now(), sum(self.seconds.values())
        yield
        inner = sum(self.seconds.values()) - before
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - start - inner
        self.current = outer


class StepClock:
    """The window over steps `warmup` .. end; `pause` closes it for an evaluation, the next step opens it again.

    `joules` are those of this rank's device in the window, None where unknown; `millijoules` reads its meter.
    """

    def __init__(
        self,
        device: torch.device,
        warmup: int,
        now: Callable[[], float] = time.perf_counter,
        millijoules: Callable[[], int | None] | None = None,
    ):
        self.device, self.warmup, self.now = device, warmup, now
        self.millijoules = millijoules or functools.partial(nvml.millijoules, device)
        self.steps, self.window_seconds, self.tokens, self.samples = 0, 0.0, 0, 0
        self.joules: float | None = 0.0
        self.batches: Counter[tuple[int, int]] = Counter()  # [B, T] of the window -> how many
        self.waited_seconds = 0.0  # in the window
        self._opened: float | None = None
        self._meter: int | None = None  # when the window was opened
        self._measuring = False
        self._marks: list[tuple[float, float]] | list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def step(self, tokens: int, samples: int) -> Generator[None, None, None]:
        """Times what runs inside; `tokens` are this rank's real text tokens."""
        self._measuring = measured = self.steps >= self.warmup
        if measured and self._opened is None:
            self._synchronize()
            self._opened, self._meter = self.now(), self.millijoules()
        start = self._mark()
        yield
        self._measuring = False
        if measured:
            self._marks.append((start, self._mark()))  # pyright: ignore[reportArgumentType] -- one kind per device
            self.tokens += tokens
            self.samples += samples
        self.steps += 1

    def count(self, examples: int, tokens: int) -> None:
        """A batch [B, T] of the step that is running."""
        if self._measuring:
            self.batches[examples, tokens] += 1

    @contextlib.contextmanager
    def waiting(self) -> Generator[None, None, None]:
        """Around what a step waits for before it has something to compute."""
        start = self.now()
        yield
        if self._opened is not None:
            self.waited_seconds += self.now() - start

    def pause(self) -> None:
        if self._opened is not None:
            self._synchronize()
            self.window_seconds += self.now() - self._opened
            self._opened = None
            before, opened, closed = self.joules, self._meter, self.millijoules()
            self.joules = None
            if before is not None and opened is not None and closed is not None:
                self.joules = before + (closed - opened) / 1000

    def share(self, operations: Operations | None, precision: str) -> Share:
        """`operations`: of `batches`."""
        return Share(operations, self.joules, devices.peak(self.device, precision))

    def milliseconds(self) -> list[float]:
        """Of each measured step; on a GPU from events, read once here."""
        return [
            start.elapsed_time(end) if isinstance(start, torch.cuda.Event) else 1000 * (end - start)  # pyright: ignore
            for start, end in self._marks
        ]

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _mark(self) -> float | torch.cuda.Event:
        if self.device.type != "cuda":
            return self.now()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def quantiles(milliseconds: Sequence[float]) -> Quantiles | None:
    if not milliseconds:
        return None
    p50, p90, p99 = (float(q) for q in np.quantile(milliseconds, [0.5, 0.9, 0.99]))
    return Quantiles(p50=p50, p90=p90, p99=p99)
