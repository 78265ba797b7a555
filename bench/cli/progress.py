"""What a person sees while cells run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.records.record import Record
from bench.runner.launch import Event


class Display:
    """Watches a launch of `total` cells."""

    def __init__(self, console: Console, total: int):
        self.console, self.total, self.done = console, total, 0
        self.noted: set[str] = set()
        self.started = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[running]}"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("cells", total=total, running="starting", speed="")

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, event: Event) -> None:
        if event.kind == "done":
            self._finished(event)
        elif event.kind == "note":
            self._note(event.note)
        else:
            steps = f" {event.step}/{event.steps}" if event.phase == "train" else ""
            self.bar.update(self.task, running=f"{shortened(event.cell)} {event.phase}{steps}")

    def _finished(self, event: Event) -> None:
        self.done += 1
        self.bar.update(self.task, completed=self.done, speed=f"{self.seconds / self.done:.1f} s/cell")
        how = summary(event.record) if event.record else "its record cannot be read"
        self._print(f"[{self.done}/{self.total}] {shortened(event.cell)}  {how}")

    def _note(self, text: str) -> None:
        """Once each."""
        if text not in self.noted:
            self.noted.add(text)
            self._print(text)

    def _print(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, markup=False)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def shortened(name: str) -> str:
    """A cell's name without its hash."""
    return name.rpartition("-")[0]


def summary(record: Record) -> str:
    if record.cost is None:
        why = record.failure.exception.splitlines()[0][:100] if record.failure else ""
        return f"{record.status}: {why}"
    speed = record.cost.tokens_per_second
    shown = "" if speed is None else f", {speed:,.0f} tokens/s"
    score = "costs only" if record.quality is None else f"test {100 * record.quality.test:.1f} %"
    return f"{score}{shown}, {sum(record.cost.seconds.values()):.1f} s"
