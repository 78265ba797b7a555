"""The cells of a run: which wait, which another run works on, and what becomes of each in the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from bench.cluster.leases import Leases
from bench.cluster.slots import SlotRequest
from bench.core import files
from bench.data import tasks
from bench.matrix.cell import Cell
from bench.records import store
from bench.records.record import Failure, Record, Status
from bench.runner.launch import Event, Launch, Watch
from bench.runner.oom_inference import inferred_out_of_memory

T = TypeVar("T")


class CellQueue:
    """By request, in the order in which they are run."""

    def __init__(self, cells: Iterable[Cell], how: Launch, leases: Leases, watch: Watch):
        self.how, self.leases, self.watch = how, leases, watch
        self.requests: dict[SlotRequest, list[Cell]] = {}
        self.elsewhere: dict[str, Cell] = {}  # that another run works on
        self.last_look_at = time.monotonic()
        for cell in cells:
            self.requests.setdefault(how.request(cell), []).append(cell)
        for several in self.requests.values():
            _sort(several)

    def __bool__(self) -> bool:
        return bool(self.requests or self.elsewhere)

    def count(self, request: SlotRequest) -> int:
        return len(self.requests.get(request, ()))

    def take(self, request: SlotRequest, like: Cell | None = None) -> Cell | None:
        """The next cell of a request, now this run's; one that shares data and weights with `like`, if there is one."""
        while cells := self.requests.get(request, []):
            alike = (i for i, cell in enumerate(cells) if like is not None and shared(cell) == shared(like))
            cell = cells.pop(next(alike, 0))
            self._drop_empty(request)
            if not self.patiently(lambda cell=cell: self.leases.claim(cell.name)):
                self.elsewhere[cell.name] = cell
            elif files.exists_uncached(store.path(self.how.results, cell.name)):
                self.done(cell)  # by another run, meanwhile
            else:
                return cell
        return None

    def give_back(self, cells: Sequence[Cell]) -> None:
        """Cells that were not run, in front of those of their request."""
        for cell in reversed(cells):
            self.leases.release(cell.name)
            self.requests.setdefault(self.how.request(cell), []).insert(0, cell)

    def done(self, cell: Cell) -> None:
        """`cell` has its record."""
        record = self._finished(cell)
        if record is not None and record.status == "out_of_memory":
            self._infer(record)

    def fail(self, cell: Cell, status: Status, failure: Failure, lost: Sequence[Failure] = ()) -> None:
        """Its record, unless it has one meanwhile; `lost`: of the runs of it that ended with a host.

        Nothing is inferred from it: where the kernel took a rank for want of memory, others' may have been the most.
        """
        made = cell.without_result(status, failure).model_copy(update={"lost": tuple(lost)})
        self.patiently(lambda: store.write(self.how.results, made))
        self._finished(cell)

    def look_elsewhere(self) -> None:
        """Cells of other runs: some have their record meanwhile, some lost the run that had them."""
        if not self.elsewhere or time.monotonic() - self.last_look_at < self.how.timeouts.elsewhere:
            return
        self.last_look_at = time.monotonic()
        claimed = self.leases.claimed()
        for name, cell in list(self.elsewhere.items()):
            if files.exists_uncached(store.path(self.how.results, name)):
                self.done(self.elsewhere.pop(name))
            elif name not in claimed:
                del self.elsewhere[name]
                self.requests.setdefault(self.how.request(cell), []).append(cell)
        if self.elsewhere and not self.requests:
            holders = sorted({claimed[name] for name in self.elsewhere})
            self.note(f"another run has the cells that are left: {', '.join(holders)}")

    def note(self, text: str) -> None:
        self.watch(Event("note", note=text))

    def patiently(self, write: Callable[[], T]) -> T:
        """What has to be written to the results is, as soon as there is room for it."""
        while True:
            try:
                return write()
            except OSError as error:
                if error.errno not in files.TRANSIENT_ERRNOS:
                    raise
                self.note(f"{self.how.results} cannot be written ({error.strerror}): waiting")
                time.sleep(self.how.timeouts.room)

    def _finished(self, cell: Cell) -> Record | None:
        """Lets go of a cell, and tells of its record; None if that cannot be read."""
        self.leases.release(cell.name)
        file = store.path(self.how.results, cell.name)
        try:
            record = store.parse(file.read_bytes())
        except (ValueError, OSError) as error:
            self.note(f"{file}: {error}")
            record = None
        self.watch(Event("done", cell.name, record=record))
        return record

    def _infer(self, witness: Record) -> None:
        """What ran out of memory needs no second try with larger micro-batches. What another run tries is its own."""
        waiting = {cell.name: cell for cells in self.requests.values() for cell in cells}
        for record in inferred_out_of_memory(waiting.values(), witness):
            cell = waiting[record.name]
            if self.patiently(lambda cell=cell: self.leases.claim(cell.name)):
                self.patiently(lambda record=record: store.write(self.how.results, record))
                request = self.how.request(cell)
                self.requests[request] = [one for one in self.requests[request] if one.name != cell.name]
                self._drop_empty(request)
                self._finished(cell)

    def _drop_empty(self, request: SlotRequest) -> None:
        if not self.requests[request]:
            del self.requests[request]


def _sort(cells: list[Cell]) -> None:
    """Those that share data and weights together; of these what takes longest first, as far as that can be guessed.

    So no long cell begins when all others are done. Where a small micro-batch runs out of memory, larger ones need not
    run: they come after it.
    """
    longest: dict[tuple[str, ...], int] = {}
    for cell in cells:
        work = cell.backbone.layers * cell.steps * cell.batch_size
        longest[shared(cell)] = max(work, longest.get(shared(cell), 0))
    cells.sort(key=lambda cell: (-longest[shared(cell)], shared(cell), cell.micro, -cell.steps))


def shared(cell: Cell) -> tuple[str, str, str, str]:
    """Data and weights, which a group keeps from one cell to the next."""
    return (cell.backbone.label, tasks.label(cell.task), cell.head.label, cell.regime.label)
