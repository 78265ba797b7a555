"""How full the hosts are: cells of many sizes on 8 x 8 slots, in simulated time.

Groups are placed by the code that places real ones; a group serves cells of its request one after another, and what
another seed gives is other durations in another order.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.cluster.slots import Allocation, SlotPool, SlotRequest

HOSTS = {f"host{number}": 8 for number in range(8)}
CELLS = {
    SlotRequest(1): 560,
    SlotRequest(1, True): 40,
    SlotRequest(2): 200,
    SlotRequest(4): 120,
    SlotRequest(8): 50,
    SlotRequest(16): 20,
    SlotRequest(32): 10,
}
MEDIAN_SECONDS, SIGMA = 60.0, 0.8  # of the lognormal durations
OFF = 0.5  # sigma of the factor by which a guess of them is off
START_SECONDS = 12.0  # of a group, until it takes its first cell
SEEDS = range(5)

Cells = list[tuple[SlotRequest, float]]  # each with its seconds
Order = Callable[[SlotPool, Iterable[SlotRequest]], list[SlotRequest]]


def mixed(seed: int) -> Cells:
    """1,000 cells: 60 % on one rank, 20 % on two, a few on as many as half of the slots; 40 want their host alone."""
    chance = random.Random(seed)
    requests = list(Counter(CELLS).elements())
    chance.shuffle(requests)
    return [(request, MEDIAN_SECONDS * chance.lognormvariate(0, SIGMA)) for request in requests]


def longest_first(cells: Cells, seed: int) -> Cells:
    """As `bench run` sorts those of a request, by a guess."""
    chance = random.Random(-1 - seed)
    return sorted(cells, key=lambda cell: -cell[1] * chance.lognormvariate(0, OFF))


@dataclass(eq=False)
class Group:
    request: SlotRequest
    place: Allocation
    seconds: float  # of its cell
    starting: bool = True


@dataclass(frozen=True)
class Outcome:
    """Shares are of all slots, in the time in which cells wait: what comes after it no order can fill."""

    busy: float  # slots that a group has
    working: float  # slots in which a cell runs: without starts, and without those kept free around exclusive ones
    makespan: float
    bound: float  # seconds in which the slots could do the work, were none ever idle
    held: float  # the same, where the slots around an exclusive cell are work, too
    starts: int  # of groups


class Simulation:
    """`lost`: a host and the second in which it vanishes."""

    def __init__(self, cells: Cells, order: Order = SlotPool.order, lost: tuple[str, float] | None = None):
        self.cells, self.order, self.lost = cells, order, lost
        self.pool = SlotPool(HOSTS)
        self.waiting: dict[SlotRequest, deque[float]] = {}
        for request, seconds in cells:
            self.waiting.setdefault(request, deque()).append(seconds)
        self.groups: dict[Group, None] = {}  # in the order of their starts
        self.events: list[tuple[float, int, Group | None]] = []  # None: the host vanishes
        self.now = 0.0
        self.starts = itertools.count()
        self.number = itertools.count()

    def run(self) -> Outcome:
        if self.lost:
            self._wake(None, self.lost[1])
        self._start()
        there = busy = working = 0.0  # slots x seconds until the tail
        while self.events:
            seconds = self.events[0][0] - self.now
            if any(self.waiting.values()):
                there += seconds * self.pool.total
                busy += seconds * self.pool.busy
                working += seconds * sum(group.request.ranks for group in self.groups if not group.starting)
            self.now, _, group = heapq.heappop(self.events)
            self._lose() if group is None else self._turn(group)
            self._start()
        assert not any(self.waiting.values()) and not self.pool.busy, "every cell was served"
        work = sum(request.ranks * seconds for request, seconds in self.cells)
        around = sum((8 - request.ranks) * seconds for request, seconds in self.cells if request.exclusive)
        shares = (busy / there, working / there)
        return Outcome(*shares, self.now, self.bound(work), self.bound(work + around), next(self.starts))

    def bound(self, work: float) -> float:
        """Seconds in which all slots, when none is ever idle, do so many slot seconds."""
        slots = sum(HOSTS.values())
        if self.lost is None or work < self.lost[1] * slots:
            return work / slots
        return self.lost[1] + (work - self.lost[1] * slots) / self.pool.total

    def _start(self) -> None:
        """Groups where there is a place, each for a cell."""
        for request in self.order(self.pool, self.waiting):
            while self.waiting[request] and (place := self.pool.allocate(request)) is not None:
                group = Group(request, place, self.waiting[request].popleft())
                self.groups[group] = None
                next(self.starts)
                self._wake(group, START_SECONDS)

    def _turn(self, group: Group) -> None:
        """A group is up, or done with a cell and takes the next one of its request, or ends."""
        if group not in self.groups:
            return  # it was on the host that vanished
        if group.starting:
            group.starting = False
        elif waiting := self.waiting[group.request]:
            group.seconds = waiting.popleft()
        else:
            del self.groups[group]
            self.pool.free(group.place)
            return
        self._wake(group, group.seconds)

    def _wake(self, group: Group | None, seconds: float) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.number), group))

    def _lose(self) -> None:
        """The host's groups end, and their cells wait again."""
        assert self.lost is not None
        host = self.lost[0]
        self.pool.lose(host)
        for group in [group for group in self.groups if host in group.place.hosts]:
            del self.groups[group]
            self.pool.free(group.place)
            self.waiting[group.request].appendleft(group.seconds)


def widest_last(pool: SlotPool, requests: Iterable[SlotRequest]) -> list[SlotRequest]:
    return list(reversed(pool.order(requests)))


def exclusive_first(pool: SlotPool, requests: Iterable[SlotRequest]) -> list[SlotRequest]:
    return sorted(pool.order(requests), key=lambda request: not request.exclusive)


def outcomes(order: Order = SlotPool.order, lost: bool = False, guessed: bool = True) -> list[Outcome]:
    """Of each seed. `lost`: a host vanishes after half of the time that the work takes at least. `guessed`: requests
    have their longest cells first, as far as these can be guessed."""
    found: list[Outcome] = []
    for seed in SEEDS:
        cells = longest_first(mixed(seed), seed) if guessed else mixed(seed)
        half = Simulation(cells).bound(sum(request.ranks * seconds for request, seconds in cells)) / 2
        found.append(Simulation(cells, order, ("host0", half) if lost else None).run())
    return found


CASES: dict[str, tuple[Order, bool] | tuple[Order, bool, bool]] = {
    "widest first": (SlotPool.order, False),
    "widest first, a host lost": (SlotPool.order, True),
    "widest first, nothing guessed": (SlotPool.order, False, False),
    "exclusive first": (exclusive_first, False),
    "exclusive first, a host lost": (exclusive_first, True),
    "widest last": (widest_last, False),
    "widest last, a host lost": (widest_last, True),
}


def main() -> None:
    print(f"{sum(CELLS.values())} cells on {len(HOSTS)} x 8 slots; shares until the tail, that is while cells wait.")
    print("bound: all slots at work all the time; held: with slots around exclusive cells as work, too.\n")
    form = "{:<30}{:>5}{:>8}{:>11}{:>12}{:>9}{:>8}{:>8}"
    print(form.format("order", "seed", "busy %", "working %", "makespan s", "/ bound", "/ held", "starts"))
    for name, case in CASES.items():
        for seed, one in zip(SEEDS, outcomes(*case), strict=True):
            shares = (f"{100 * one.busy:.1f}", f"{100 * one.working:.1f}")
            against = (f"{one.makespan / one.bound:.3f}", f"{one.makespan / one.held:.3f}")
            print(form.format(name, seed, *shares, f"{one.makespan:.0f}", *against, one.starts))


if __name__ == "__main__":
    main()
