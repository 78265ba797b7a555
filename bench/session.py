"""`bench run`: expand, leave out what has a record, make ready, launch, and end in the boards."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import Progress

from bench import board, data, files, launch, matrix, records, sources, toy
from bench.cells import Cell
from bench.launch import Launch, LaunchError
from bench.progress import Display
from bench.settings import InputError, Problem


@dataclass
class Session:
    console: Console
    results: Path
    hostfile: Path | None = None
    arguments: list[str] = field(default_factory=list)

    def run(
        self,
        name: str,
        retry: list[str],
        limit: int | None,
        dry: bool,
        preflight: bool = False,
        predict: bool = False,
        budget: int | None = None,
    ) -> int:
        """The exit status: 0 when every cell has a record that says ok, else 1.

        `predict`: run dry first, for the records. `budget`: bytes of a device; cells that need more are not run.
        """
        loaded = matrix.load(name)
        cells = loaded.expand()
        if not dry:
            self._forget(cells, retry)
        left = launch.pending(cells, self.results)[:limit]
        where = Launch(self.results, self.hostfile, self.arguments)
        self.say(f"{len(cells)} cells, {len(left)} to run, results in {self.results}")
        if dry:
            for group in launch.groups(left):
                self.say(f"{len(group)} cells: {shlex.join(launch.command(group[0].ranks, Path('QUEUE'), where))}")
            return 0
        started = True
        if left:
            check_environment(left)
            check_data(left)
            where.commits = sources.resolved()
            if predict or budget is not None:
                left = self._predict(left, where, budget)
            started = self._launch(loaded.name, left, where, preflight)
        done = self._finish(cells)
        return 0 if started and done else 1

    def _predict(self, cells: list[Cell], where: Launch, budget: int | None) -> list[Cell]:
        """The cells that fit or of which that is not known; the others get a record that says what they need."""
        from bench.predict.record import does_not_fit
        from bench.predict.session import predict

        entries = predict(cells, self.console)
        where.predicted = {one.cell.name: one.predicted for one in entries if one.predicted is not None}
        if budget is not None:
            for entry in entries:
                if entry.fits(budget) is False:
                    records.write(self.results, does_not_fit(entry, budget))
        left = launch.pending(cells, self.results)
        self.say(f"{len(where.predicted)} cells predicted, {len(cells) - len(left)} of them do not fit")
        return left

    def _launch(self, name: str, cells: list[Cell], where: Launch, preflight: bool) -> bool:
        try:
            if preflight:
                cells = self._preflight(name, cells, where)
            prepare_backbones(cells, self.console)
            with Display(self.console, len(cells)) as display:
                launch.run(cells, where, display)
        except LaunchError as error:
            self.say(f"the processes could not be started: {error}")
            return False
        self.say(f"{len(cells)} cells in {display.seconds:.0f} s")
        return True

    def _preflight(self, name: str, cells: list[Cell], where: Launch) -> list[Cell]:
        """The cells whose gradients are right; the others get a record that says why they are not run."""
        from bench.preflight import session

        report = session.preflight(name, cells, where, self.console)
        session.show(report, self.console)
        verdicts = report.of_cells()
        for cell in cells:
            if (found := session.record(cell, verdicts[cell.name])) is not None:
                records.write(self.results, found)
        return launch.pending(cells, self.results)

    def _forget(self, cells: list[Cell], retry: list[str]) -> None:
        """Takes away the records whose status is to be tried again, and the files that are no record."""
        known = get_args(records.Status)
        for status in retry:
            if status not in known:
                raise InputError(
                    "command line", [Problem("--retry", f"found {status}, expected one of {', '.join(known)}")]
                )
        if not retry:
            return
        reading = records.read_all(self.results)
        keep = {record.name for record in reading.records if record.status not in retry}
        for name in records.recorded(self.results) & {cell.name for cell in cells} - keep:
            records.path(self.results, name).unlink()

    def _finish(self, cells: list[Cell]) -> bool:
        """Writes the boards, prints that of `cells`; whether all of them are done."""
        reading = records.read_all(self.results)
        for line in reading.unreadable:
            self.say(f"left out: {line}")
        written = board.write(reading.records, self.results)
        names = {cell.name for cell in cells}
        mine = [record for record in reading.records if record.name in names]
        self.say(board.markdown(mine, details=False))
        counts: Counter[str] = Counter(record.status for record in mine)
        if missing := len(cells) - len(mine):
            counts["without a record"] = missing
        self.say(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
        self.say(" ".join(map(str, written)))
        return set(counts) <= {"ok"}

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)


def check_environment(cells: list[Cell]) -> None:
    """InputError names the variables that ZeRO configurations need and that are not set."""
    needed = {(name, cell.zero.label) for cell in cells for name in cell.zero.unset}
    if needed:
        message = "is not set: {} expects the path of a folder in it"
        raise InputError("environment", [Problem(name, message.format(zero)) for name, zero in sorted(needed)])


def check_data(cells: list[Cell]) -> None:
    """Reads what every cell would read, before anything starts. InputError names the first fault."""
    seen: set[tuple[str, str, int]] = set()
    for cell in (cell for cell in cells if not cell.cost_only):
        key = (cell.task.label, cell.regime.label, cell.seed)
        if key not in seen:
            seen.add(key)
            data.split(cell.task, cell.regime, cell.seed)


def prepare_backbones(cells: list[Cell], console: Console) -> None:
    """Trains the built-in backbones that are not in the cache yet, side by side."""
    names = sorted({cell.backbone.name for cell in cells if cell.backbone.source == "built-in"})
    missing = [name for name in names if not toy.folder(name).is_dir()]
    if not missing:
        return
    console.print(f"training {' and '.join(missing)}, once; kept in {files.cache()}", highlight=False)
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", "bench.toy", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in missing
    }
    with Progress(console=console, disable=not console.is_terminal) as bar, ThreadPoolExecutor() as pool:
        list(pool.map(lambda item: _follow(bar, *item), processes.items()))


def _follow(bar: Progress, name: str, process: subprocess.Popen[str]) -> None:
    """Shows the steps a training process prints, until it ends. LaunchError has what it said when it failed."""
    task = bar.add_task(name, total=None)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if step := re.fullmatch(r"(\d+)/(\d+)\n", line):  # libraries print too
                bar.update(task, completed=int(step[1]), total=int(step[2]))
        _, said = process.communicate()
    finally:
        process.kill()
    if process.returncode != 0:
        raise LaunchError(f"training {name} failed:\n{said[-2000:]}")
