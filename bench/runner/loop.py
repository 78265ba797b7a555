"""The loop of a run: which group serves which cell on which slots, and what becomes of groups that fail."""

from __future__ import annotations

import functools
import tempfile
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bench.cluster import failure_diagnosis
from bench.cluster.failure_diagnosis import StallReport
from bench.cluster.leases import Leases
from bench.cluster.process_group import ProcessGroup
from bench.cluster.processes import ignore_stop_signals
from bench.cluster.slots import Allocation, SlotPool, SlotRequest
from bench.core import files
from bench.matrix.cell import Cell
from bench.records import store
from bench.records.record import Failure
from bench.runner.cell_queue import CellQueue
from bench.runner.launch import Event, Launch, LaunchError, Watch, line_of, run_folder, start_error

AHEAD = 2  # cells that a group has at a time, so that it never waits for the next one, while there are many
STARTS = 2  # how often in a row processes may die before their first cell, on one host
ONCE_MORE = 1  # how often a cell is run again that lost its host, or whose end no rank had a part in
DESERTED = 3  # how often a cell may lose its ranks to a run that stands still
LONGER = 3  # times the limit for what tells little while it lasts:
NO_HOST = "no host is left: `bench doctor` says what is wrong; cells without a record run at the next `bench run`"
SLOW_PHASES = ("", "load", "setup", "cache")


def run(cells: list[Cell], launch: Launch, watch: Watch) -> None:
    """Runs every cell; afterwards each has a record, made here or by another run on the same results.

    LaunchError when processes cannot be started at all, or no host is left.
    """
    hosts = launch.hosts(max((cell.ranks for cell in cells), default=1))
    folder = run_folder(launch.results)
    with (
        Leases(launch.results, folder, launch.timeouts) as leases,
        Scheduler(launch, SlotPool(hosts), folder, leases, watch) as made,
    ):
        made.serve(cells)


class ActiveGroup:
    """A group and the cells it was given, the first of which it runs."""

    def __init__(self, request: SlotRequest, running: ProcessGroup):
        self.request, self.group = request, running
        self.cells: list[Cell] = []
        self.served = 0
        self.closed = False  # nothing more will be given
        self.probed = time.monotonic()
        self.probe: Future[list[str]] | None = None
        self.stall: StallReport | None = None
        self.lost: list[str] = []  # hosts that do not answer

    @property
    def idle(self) -> float:
        """Seconds without progress of any rank."""
        return time.monotonic() - self.group.last_progress_at

    def limit(self, timeout: float) -> float:
        """Seconds after which it is taken to hang."""
        phase = self.group.beats[0].phase if self.group.beats else ""
        return timeout * (LONGER if phase in SLOW_PHASES else 1)


class Scheduler:
    """One `bench run` while it runs; a context manager that ends what is left of its groups."""

    def __init__(self, how: Launch, pool: SlotPool, folder: Path, leases: Leases, watch: Watch):
        self.how, self.pool, self.folder, self.leases, self.watch = how, pool, folder, leases, watch
        self.slots = dict(pool.hosts)
        self.groups: list[ActiveGroup] = []
        self.lost: dict[str, list[Failure]] = {}  # of each cell, runs of it that ended with a host
        self.gone: set[str] = set()  # hosts that did not answer
        self.failed_starts: Counter[str] = Counter()  # by host, since the last that went well
        self.unmet: Counter[str] = Counter()  # by cell, groups over several hosts that did not come together
        self.deserted: Counter[str] = Counter()  # by cell, groups that took this run for gone
        self.probes = ThreadPoolExecutor(8, "probe")

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        with ignore_stop_signals():
            for one in self.groups:
                one.group.stop("the run is over")
            for one in self.groups:
                one.group.end(sorted(self.gone))
            self.probes.shutdown(cancel_futures=True)

    def serve(self, cells: list[Cell]) -> None:
        """Until each of `cells` has a record. LaunchError when that cannot be."""
        self.queue = CellQueue(cells, self.how, self.leases, self.watch)
        while self.queue or self.groups:
            for one in list(self.groups):
                self._follow(one)
            self.queue.look_elsewhere()
            self._drop_impossible()
            for one in self.groups:
                self._feed(one)
            self._start()
            time.sleep(self.how.timeouts.poll)

    def _drop_impossible(self) -> None:
        """Cells for which too few slots are left, now that hosts were set aside."""
        if not self.pool.total:
            if self.queue and not self.groups:
                raise LaunchError(NO_HOST)
            return  # what runs goes on where no more can be started
        for request in [request for request in self.queue.requests if not self.pool.possible(request)]:
            why = f"not run: needs {request.ranks} slots, {self.pool.total} are left of {sum(self.slots.values())}"
            while (cell := self.queue.take(request)) is not None:
                before = self.lost.get(cell.name, [])
                failure = before[-1] if before else Failure(phase="start", rank=None, host=None, exception=why)
                self.queue.fail(cell, "node_lost", failure, before[:-1])

    def _start(self) -> None:
        """Groups wherever there are cells and slots for them."""
        for request in self.pool.order(self.queue.requests):
            while self.queue.count(request) and (place := self.pool.allocate(request)) is not None:
                cell = self.queue.take(request)
                if cell is None:
                    self.pool.free(place)
                    break
                self._begin(request, place, cell)

    def _begin(self, request: SlotRequest, place: Allocation, cell: Cell) -> None:
        work = Path(self.queue.patiently(lambda: tempfile.mkdtemp(dir=self.folder, prefix="group-")))
        taken = {one.group.group.port for one in self.groups}
        try:
            planned = self.how.group(place, self.slots, work, taken)
        except OSError as error:  # nobody knows where that host is
            self.pool.free(place)
            self._lose(place.hosts[0], str(error))
            self.queue.give_back([cell])
            return
        head = {"results": str(self.how.results.resolve()), "commits": self.how.commits}
        start = functools.partial(ProcessGroup, planned, self.how.launcher, self.how.worker, self.leases.lease, head)
        one = ActiveGroup(request, self.queue.patiently(start))
        self.groups.append(one)
        self._give(one, cell)

    def _give(self, one: ActiveGroup, cell: Cell) -> None:
        one.cells.append(cell)
        line = line_of(cell, self.how, self.lost.get(cell.name, []))
        self.queue.patiently(lambda: one.group.feed(line))

    def _feed(self, one: ActiveGroup) -> None:
        """Cells for a group that has too few, or word that there are no more."""
        if one.closed or one.group.over:
            return
        groups = sum(other.request == one.request for other in self.groups)
        ahead = AHEAD if self.queue.count(one.request) > AHEAD * groups else 1
        like = one.cells[-1] if one.cells else None
        while len(one.cells) < ahead and (cell := self.queue.take(one.request, like)) is not None:
            self._give(one, cell)
        if not one.cells:
            self.queue.patiently(lambda: one.group.feed({"end": True}))
            one.closed = True

    def _follow(self, one: ActiveGroup) -> None:
        """What a group has done since the last look, and whether it goes on."""
        one.group.poll()
        self._tell(one)
        recorded = self._collect(one)
        over = one.group.over or (one.group.failing and recorded)
        if over or (one.idle > self.how.timeouts.silence and one.cells and self._hosts_lost(one)):
            self._settle(one)
        elif one.idle > one.limit(self.how.timeouts.timeout) and (one.cells or one.closed):
            one.stall = StallReport(one.limit(self.how.timeouts.timeout), one.group.beats)
            self._settle(one)

    def _tell(self, one: ActiveGroup) -> None:
        beat = next((beat for beat in one.group.beats if beat.cell), None)
        if beat is not None and one.cells and beat.cell == one.cells[0].name:
            self.watch(Event("progress", beat.cell, beat.phase, beat.step, beat.steps))
        for told in {beat.trouble for beat in one.group.beats if beat.trouble}:
            self.queue.note(told)

    def _collect(self, one: ActiveGroup) -> bool:
        """Takes its cells that have a record; whether there were any."""
        before = one.served
        while one.cells and files.exists_uncached(store.path(self.how.results, one.cells[0].name)):
            one.served += 1
            for host in one.group.group.allocation.hosts:
                self.failed_starts.pop(host, None)
            self.queue.done(one.cells.pop(0))
        return one.served > before

    def _hosts_lost(self, one: ActiveGroup) -> bool:
        """Whether some of its hosts do not answer any more; they are asked in the background, now and then."""
        one.lost = one.lost or self._known_gone(one)
        since = time.monotonic() - one.probed
        if not one.lost and one.probe is None and since > self.how.timeouts.silence:
            one.probe = self.probes.submit(failure_diagnosis.unreachable_hosts, one.group)
        if one.probe is not None and one.probe.done():
            one.lost, one.probe, one.probed = one.probe.result(), None, time.monotonic()
        return bool(one.lost)

    def _known_gone(self, one: ActiveGroup) -> list[str]:
        return [host for host in one.group.group.allocation.hosts if host in self.gone]

    def _settle(self, one: ActiveGroup) -> None:
        """The end of a group: a record for the cell that was running, the others go back."""
        one.group.end(one.lost)
        self.groups.remove(one)
        self.pool.free(one.group.group.allocation)
        self._collect(one)
        if one.cells and failure_diagnosis.deserted_by_run(one.group) and self.deserted[one.cells[0].name] < DESERTED:
            self.deserted[one.cells[0].name] += 1
            self.queue.note(f"ranks ended since this run stood still ({self.leases.lease}); their cells run again")
            return self.queue.give_back(one.cells)
        begun = {beat.cell for beat in one.group.beats}
        running = one.cells.pop(0) if one.cells and one.cells[0].name in begun else None
        if running is None and (one.served or one.closed):
            return self.queue.give_back(one.cells)
        if not one.lost and failure_diagnosis.first_failed_rank(one.group.exits) is None:
            one.lost = self._known_gone(one) or failure_diagnosis.unreachable_hosts(one.group)
        self.gone.update(one.lost)
        for host in one.lost:
            self._lose(host, "does not answer")
        if running is not None:
            self._fail(one, running)
        elif not one.lost:
            self._count_failed_start(one)
        self.queue.give_back(one.cells)

    def _fail(self, one: ActiveGroup, cell: Cell) -> None:
        """`cell` was running when its group ended."""
        status, failure = failure_diagnosis.failure_of(one.group, cell.name, one.lost, one.stall)
        before = self.lost.setdefault(cell.name, [])
        blameless = status == "node_lost" or (status == "failed" and failure.rank is None)
        if blameless and len(before) < ONCE_MORE and self.pool.possible(one.request):
            before.append(failure)
            self.queue.note(f"{cell.name}: {failure.exception}; it is run once more")
            self.queue.give_back([cell])
        else:
            self.queue.fail(cell, status, failure, before)

    def _count_failed_start(self, one: ActiveGroup) -> None:
        """Processes that ended before their first cell: some times in a row on a host, and it is set aside.

        Where all hosts of a group have started theirs, these do not find one another: that is its cell's failure.
        """
        hosts = failure_diagnosis.hosts_without_ranks(one.group)
        if not hosts and len(one.group.group.allocation.hosts) > 1:
            self.unmet[one.cells[0].name] += 1
            if self.unmet[one.cells[0].name] >= STARTS:
                self.queue.fail(one.cells.pop(0), "failed", failure_diagnosis.rendezvous_failure(one.group))
            return
        for host in hosts or one.group.group.allocation.hosts:
            self.failed_starts[host] += 1
            if self.failed_starts[host] >= STARTS:
                self._lose(host, f"processes do not start there; see {one.group.work / 'log'}")
        if not self.pool.total and not self.groups:
            raise start_error(one.group)

    def _lose(self, host: str, why: str) -> None:
        if host in self.pool.hosts:
            self.pool.lose(host)
            self.queue.note(f"{host} is set aside: {why}; {self.pool.total} slots are left")
