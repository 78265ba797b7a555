"""The loop of a run: which group serves which cell on which slots, and what becomes of those that fail."""

from __future__ import annotations

import errno
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench import endings, group, launch, records
from bench.cells import Cell
from bench.group import Running
from bench.inference import inferred_out_of_memory
from bench.launch import Event, Launch, LaunchError, Watch
from bench.leases import Leases
from bench.processes import deaf
from bench.records import Failure, Record, Status
from bench.schedule import Lane, Pool

AHEAD = 2  # cells that a group has at a time, so that it never waits for the next one, while there are many
LOOK_ELSEWHERE_SECONDS = 2.0
PROBE_SECONDS = 20.0  # without progress, after which it is asked whether the hosts are there
STARTS = 2  # how often processes may die before their first cell, on one host
ONCE_MORE = 1  # how often a cell goes elsewhere after it lost its host
LONGER = 3  # times the limit for what tells little while it lasts:
SLOW_PHASES = ("", "load", "setup", "cache")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Serving:
    """A group and the cells it was given, the first of which it runs."""

    def __init__(self, lane: Lane, running: Running):
        self.lane, self.running = lane, running
        self.cells: list[Cell] = []
        self.served = 0
        self.closed = False  # nothing more will be given
        self.probed = time.monotonic()
        self.stalled: float | None = None  # the limit it went beyond
        self.lost: list[str] = []  # hosts that do not answer


class Run:
    """One `bench run` while it runs; a context manager that ends what is left of its groups."""

    def __init__(self, how: Launch, pool: Pool, folder: Path, leases: Leases, watch: Watch):
        self.how, self.pool, self.folder, self.leases, self.watch = how, pool, folder, leases, watch
        self.slots = dict(pool.hosts)
        self.waiting: dict[Lane, list[Cell]] = {}
        self.elsewhere: dict[str, Cell] = {}  # cells that another run works on
        self.groups: list[Serving] = []
        self.lost: dict[str, list[Failure]] = {}  # of each cell, runs that ended with a host
        self.failed_starts: Counter[str] = Counter()  # by host, since the last that went well
        self.looked_elsewhere = time.monotonic()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        with deaf():
            for one in self.groups:
                one.running.stop("the run is over")
            for one in self.groups:
                one.running.end()

    def serve(self, cells: list[Cell]) -> None:
        """Until each of `cells` has a record."""
        self.waiting = launch.lanes(cells, self.how)
        self._infer()
        while self.waiting or self.groups or self.elsewhere:
            for one in list(self.groups):
                self._follow(one)
            self._look_elsewhere()
            self._drop_impossible()
            for one in self.groups:
                self._feed(one)
            self._start()
            time.sleep(launch.POLL_SECONDS)

    # cells

    def _take(self, lane: Lane, like: Cell | None) -> Cell | None:
        """The next cell of a lane, now this run's; one that shares data and weights with `like`, if there is one."""
        waiting = self.waiting.get(lane, [])
        while waiting:
            alike = (i for i, cell in enumerate(waiting) if like and launch.shared(cell) == launch.shared(like))
            cell = waiting.pop(next(alike, 0))
            if not waiting:
                del self.waiting[lane]
            if not self._patiently(lambda cell=cell: self.leases.claim(cell.name)):
                self.elsewhere[cell.name] = cell
            elif records.path(self.how.results, cell.name).is_file():
                self._done(cell)  # by another run, meanwhile
            else:
                return cell
        return None

    def _give_back(self, cells: list[Cell]) -> None:
        """Cells that were not run, in front of those of their lane."""
        for cell in reversed(cells):
            self.leases.release(cell.name)
            self.waiting.setdefault(self.how.lane(cell), []).insert(0, cell)

    def _done(self, cell: Cell) -> Record | None:
        """`cell` has its record."""
        self.leases.release(cell.name)
        try:
            record = records.parse(records.path(self.how.results, cell.name).read_bytes())
        except (ValueError, OSError) as error:
            self._note(f"{records.path(self.how.results, cell.name)}: {error}")
            record = None
        self.watch(Event("done", cell.name, record=record))
        if record is not None and record.status == "out_of_memory":
            self._infer()
        return record

    def _record(self, cell: Cell, status: Status, failure: Failure) -> None:
        """Unless the cell has one meanwhile."""
        made = cell.without_result(status, failure).model_copy(update={"lost": tuple(self.lost.get(cell.name, ()))})
        self._patiently(lambda: records.write(self.how.results, made))
        self._done(cell)

    def _infer(self) -> None:
        """What ran out of memory needs no second try with larger micro-batches."""
        waiting = {cell.name: cell for cells in self.waiting.values() for cell in cells}
        for record in inferred_out_of_memory(waiting.values(), self.how.results, self.how.started):
            self._patiently(lambda record=record: records.write(self.how.results, record))
            self._forget(waiting[record.name])
            self._done(waiting[record.name])

    def _forget(self, cell: Cell) -> None:
        lane = self.how.lane(cell)
        self.waiting[lane] = [one for one in self.waiting[lane] if one.name != cell.name]
        if not self.waiting[lane]:
            del self.waiting[lane]

    def _look_elsewhere(self) -> None:
        """Cells of other runs: some have their record meanwhile, some lost the run that had them."""
        if not self.elsewhere or time.monotonic() - self.looked_elsewhere < LOOK_ELSEWHERE_SECONDS:
            return
        self.looked_elsewhere = time.monotonic()
        claimed = self.leases.claimed()
        for name, cell in list(self.elsewhere.items()):
            if records.path(self.how.results, name).is_file():
                del self.elsewhere[name]
                self._done(cell)
            elif name not in claimed:
                del self.elsewhere[name]
                self.waiting.setdefault(self.how.lane(cell), []).append(cell)
        if self.elsewhere and not self.waiting and not self.groups:
            holders = sorted({claimed[name] for name in self.elsewhere if name in claimed})
            self._note(f"waiting for {len(self.elsewhere)} cells of {', '.join(holders)}")

    def _drop_impossible(self) -> None:
        """Cells for which too few slots are left, now that hosts were set aside."""
        if not self.pool.total:
            raise LaunchError("no host is left; cells without a record run when `bench run` is started again")
        for lane in [lane for lane in self.waiting if not self.pool.possible(lane)]:
            why = f"not run: needs {lane.ranks} slots, {self.pool.total} are left of {sum(self.slots.values())}"
            for cell in self.waiting.pop(lane):
                before = self.lost.get(cell.name)
                lost = before[-1] if before else Failure(phase="start", rank=None, host=None, exception=why)
                self._record(cell, "node_lost", lost)

    # groups

    def _start(self) -> None:
        """Groups wherever there are cells and slots for them."""
        for lane in self.pool.order(self.waiting):
            while lane in self.waiting and (place := self.pool.place(lane)) is not None:
                cell = self._take(lane, None)
                if cell is None:
                    self.pool.free(place)
                    break
                work = Path(tempfile.mkdtemp(dir=self.folder, prefix="group-"))
                taken = {one.running.group.port for one in self.groups}
                made = group.planned(place, self.slots, work, tuple(self.how.arguments), taken)
                head = {"results": str(self.how.results.resolve()), "commits": self.how.commits}
                running = Running(made, self.how.launcher, "bench.worker", self.leases.lease, head)
                self.groups.append(one := Serving(lane, running))
                self._give(one, cell)

    def _give(self, one: Serving, cell: Cell) -> None:
        one.cells.append(cell)
        one.running.feed(launch.line_of(cell, self.how, self.lost.get(cell.name, [])))

    def _feed(self, one: Serving) -> None:
        """Cells for a group that has too few, or word that there are no more."""
        if one.closed or one.running.over:
            return
        many = len(self.waiting.get(one.lane, ())) > AHEAD * sum(other.lane == one.lane for other in self.groups)
        while len(one.cells) < (AHEAD if many else 1) and (cell := self._take(one.lane, self._last(one))) is not None:
            self._give(one, cell)
        if not one.cells:
            one.running.feed({"end": True})
            one.closed = True

    def _last(self, one: Serving) -> Cell | None:
        return one.cells[-1] if one.cells else None

    def _follow(self, one: Serving) -> None:
        """What a group has done since the last look, and whether it goes on."""
        one.running.look()
        self._tell(one)
        while one.cells and records.path(self.how.results, one.cells[0].name).is_file():
            one.served += 1
            self.failed_starts.subtract({host: self.failed_starts[host] for host in one.running.group.place.hosts})
            self._done(one.cells.pop(0))
        if one.running.over:
            self._settle(one)
            return
        idle = time.monotonic() - one.running.news
        if one.cells and idle > PROBE_SECONDS and time.monotonic() - one.probed > PROBE_SECONDS:
            one.probed = time.monotonic()
            one.lost = endings.unreachable(one.running)
            if one.lost:
                self._settle(one)
                return
        phase = one.running.beats[0].phase if one.running.beats else ""
        limit = self.how.timeout * (LONGER if phase in SLOW_PHASES else 1)
        if idle > limit and (one.cells or one.closed):
            one.stalled = limit
            self._settle(one)

    def _tell(self, one: Serving) -> None:
        beat = next((beat for beat in one.running.beats if beat.cell), None)
        if beat is not None and one.cells and beat.cell == one.cells[0].name:
            self.watch(Event("progress", beat.cell, beat.phase, beat.step, beat.steps))
        for told in {beat.trouble for beat in one.running.beats if beat.trouble}:
            self._note(told)

    def _settle(self, one: Serving) -> None:
        """The end of a group: a record for the cell that was running, the others go back."""
        if one.running.session.poll() is None or one.stalled is not None:
            one.running.stop("the group is over")
        one.running.end()
        self.groups.remove(one)
        self.pool.free(one.running.group.place)
        while one.cells and records.path(self.how.results, one.cells[0].name).is_file():
            one.served += 1
            self._done(one.cells.pop(0))
        begun = {beat.cell for beat in one.running.beats}
        running = one.cells.pop(0) if one.cells and one.cells[0].name in begun else None
        self._give_back(one.cells)
        if running is None and (one.served or one.closed):
            return
        told = endings.root(one.running.exits) is not None and one.stalled is None
        one.lost = one.lost or ([] if told else endings.unreachable(one.running))
        for host in one.lost:
            self._lose(host, "does not answer")
        if running is not None:
            self._fail(one, running)
        elif not one.lost:
            self._count_failed_start(one)

    def _fail(self, one: Serving, cell: Cell) -> None:
        """`cell` was running when its group ended."""
        status, failure = endings.failure_of(one.running, cell.name, one.lost, one.stalled)
        before = self.lost.setdefault(cell.name, [])
        if status == "node_lost" and len(before) < ONCE_MORE:
            before.append(failure)
            self._note(f"{cell.name}: {failure.exception}; it is run once more elsewhere")
            self._give_back([cell])
            return
        self._record(cell, status, failure)

    def _count_failed_start(self, one: Serving) -> None:
        """Processes that ended before their first cell: twice in a row on a host, and it is set aside."""
        for host in endings.silent(one.running):
            self.failed_starts[host] += 1
            if self.failed_starts[host] >= STARTS:
                self._lose(host, f"processes do not start there; see {one.running.work / 'log'}")
        if not self.pool.total:
            raise launch.start_error(one.running)

    def _lose(self, host: str, why: str) -> None:
        if host in self.pool.hosts:
            self.pool.lose(host)
            self._note(f"{host} is set aside: {why}")

    def _note(self, text: str) -> None:
        self.watch(Event("note", note=text))

    def _patiently(self, write: Callable[[], T]) -> T:
        """What has to be written to the results is, as soon as there is room for it."""
        while True:
            try:
                return write()
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                self._note(f"{self.how.results} cannot be written ({error.strerror}): waiting")
                time.sleep(launch.POLL_SECONDS * 50)


T = TypeVar("T")
