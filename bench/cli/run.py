"""`bench run`: expand, leave out what has a record, make ready, launch, and end in the boards."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from bench import board
from bench.cli.progress import Display
from bench.cli.terminal import say
from bench.core import files
from bench.core.settings import InputError, Problem
from bench.data import sources
from bench.matrix import matrix
from bench.matrix.cell import Cell
from bench.records import retry, sample_cards, store
from bench.records.record import Predicted
from bench.runner import launch as runner
from bench.runner import loop, preconditions
from bench.runner.launch import Launch, LaunchError

TRIED_BYTES = 2**20


@dataclass(frozen=True)
class RunOptions:
    """What one `bench run` is asked to do, beside where and how its ranks are started."""

    matrix: str  # a file, or the name of a shipped one
    retry: tuple[str, ...] = ()  # statuses of records whose cells run again
    max_cells: int | None = None
    dry_run: bool = False
    preflight: bool = False  # check gradients first
    predict: bool = False  # run dry first, for the records
    budget: int | None = None  # bytes of a device: cells that need more are not run


@dataclass(frozen=True)
class StageResult:
    """How cells ended that ran together."""

    complete: bool = False  # every one of them has a record
    done: bool = False  # and all say ok


@dataclass
class Session:
    console: Console
    options: RunOptions
    launch: Launch
    exclusive: Callable[[Cell], bool] = field(default=lambda cell: False)

    @property
    def results(self) -> Path:
        return self.launch.results

    def run(self) -> int:
        """The exit status: 0 when every cell has a record that says ok, else 1."""
        loaded = matrix.load(self.options.matrix)
        cells = loaded.expansion()
        self.exclusive = loaded.alone
        waiting = f", then {count} to choose on dev" if (count := len(cells.decisions)) else ""
        first = self._stage(loaded.name, cells.runnable_now(), waiting)
        if self.options.dry_run:
            return 0
        complete = bool(cells.decisions) and first.complete
        selected, without = cells.selected(self._dev(cells.runnable_now())) if complete else ([], [])
        if cells.decisions and not first.complete:
            self.say(f"{len(cells.decisions)} choices wait for the tuning cells that have no record")
        for title in without:
            self.say(f"nothing to choose from, every candidate failed: {title}")
        second = self._stage(loaded.name, selected) if selected else StageResult(done=not cells.decisions)
        shown = self._finish([*cells.runnable_now(), *selected])
        return 0 if first.done and second.done and shown and not without else 1

    def _try_results(self) -> None:
        """InputError when nothing can be written there, before anything is started."""
        tried = self.results / ".run" / "tried"
        try:
            files.write(tried, "x" * TRIED_BYTES)
            tried.unlink(missing_ok=True)  # another run may try at the same time
        except OSError as error:
            message = f"found {error.strerror}, expected a folder with room in which files can be written"
            raise InputError(str(self.results), [Problem("--results", message)]) from error

    def _stage(self, name: str, cells: list[Cell], waiting: str = "") -> StageResult:
        """Runs those of `cells` that have no record. `name`: of their matrix."""
        options, names = self.options, {cell.name for cell in cells}
        if options.retry and not options.dry_run:
            self._try_results()
            for file in retry.forget(self.results, names, options.retry):
                self.say(f"set aside: {file}")
        left = runner.pending(cells, self.results)[: options.max_cells]
        for line in retry.unreadable(self.results, names).values():
            self.say(f"not run: {line}: --retry {retry.UNREADABLE} sets it aside and runs its cell")
        self.say(f"{len(cells)} cells, {len(left)} to run{waiting}, results in {self.results}")
        launch = replace(self.launch, exclusive=frozenset(cell.name for cell in left if self.exclusive(cell)))
        hosts = launch.hosts(max(cell.ranks for cell in left)) if left else {}
        if options.dry_run:
            for request, count in Counter(map(launch.request, left)).items():
                self.say(f"{count} cells: {shlex.join(runner.example(request, hosts, launch))}")
            return StageResult()
        started = True
        if left:
            seen = preconditions.check(left)
            self._try_results()
            for card in seen:
                sample_cards.write(self.results, card)
            launch = replace(launch, commits=sources.resolved())
            if options.predict or options.budget is not None:
                left, predicted = self._predict(left)
                launch = replace(launch, predicted=predicted)
            started = self._launch(name, left, launch)
        found = store.read_all(self.results, names).records
        complete = started and len(found) == len(cells)
        return StageResult(complete, complete and all(record.status == "ok" for record in found))

    def _dev(self, cells: list[Cell]) -> dict[str, float | None]:
        """The score on dev of each cell; None of what failed."""
        found = store.read_all(self.results, {cell.name for cell in cells}).records
        return {record.name: record.quality.dev if record.quality else None for record in found}

    def _predict(self, cells: list[Cell]) -> tuple[list[Cell], dict[str, Predicted]]:
        """The cells that fit or of which that is not known, and predictions by cell.

        The others get a record that says what they need.
        """
        from bench.checks.plan.predict import predict
        from bench.checks.plan.record import does_not_fit

        entries, budget = predict(cells, self.console), self.options.budget
        if budget is not None:
            for entry in entries:
                if entry.fits(budget) is False:
                    store.write(self.results, does_not_fit(entry, budget))
        predicted = {one.cell.name: one.predicted for one in entries if one.predicted is not None}
        left = runner.pending(cells, self.results)
        self.say(f"{len(predicted)} cells predicted, {len(cells) - len(left)} of them do not fit")
        return left, predicted

    def _launch(self, name: str, cells: list[Cell], launch: Launch) -> bool:
        """Whether processes could be started."""
        try:
            if self.options.preflight:
                cells = self._preflight(name, cells, launch)
            with Display(self.console, len(cells)) as display:
                loop.run(cells, launch, display)
        except (LaunchError, OSError) as error:
            self.say(str(error))
            return False
        self.say(f"{len(cells)} cells in {display.seconds:.0f} s")
        return True

    def _preflight(self, name: str, cells: list[Cell], launch: Launch) -> list[Cell]:
        """The cells whose gradients are right; the others get a record that says why they are not run."""
        from bench.cli import preflight

        report = preflight.preflight(name, cells, launch, self.console)
        preflight.show(report, self.console)
        verdicts = report.of_cells()
        for cell in cells:
            if (found := preflight.record(cell, verdicts[cell.name])) is not None:
                store.write(self.results, found)
        return runner.pending(cells, self.results)

    def _finish(self, cells: list[Cell]) -> bool:
        """Writes the boards and prints that of `cells`; whether they could be written."""
        reading = store.read_all(self.results)
        found, unreadable = sample_cards.read_all(self.results)
        for line in [*reading.unreadable, *unreadable]:
            self.say(f"left out: {line}")
        names = {cell.name for cell in cells}
        mine = [record for record in reading.records if record.name in names]
        self.say(board.markdown(mine, details=False))
        counts: Counter[str] = Counter(record.status for record in mine)
        if missing := len(names) - len(mine):
            counts["without a record"] = missing
        self.say(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
        try:
            self.say(" ".join(map(str, board.write(board.Contents(reading.records, found), self.results))))
        except OSError as error:
            self.say(f"{error}; `bench board {self.results}` makes the boards when there is room")
            return False
        return True

    def say(self, line: str) -> None:
        say(self.console, line)
