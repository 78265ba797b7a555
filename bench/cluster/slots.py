"""Which slots of which hosts a group of processes gets: side by side where it fits on one host, across hosts if not.

Nothing here knows time or files, so that a simulation runs the very code that places groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SlotRequest:
    """Cells that the same groups can serve."""

    ranks: int
    exclusive: bool = False  # whether a group gets its hosts alone


@dataclass(frozen=True)
class Allocation:
    """The slots of one group."""

    slots: tuple[tuple[str, tuple[int, ...]], ...]  # of each host, in the order of ranks
    exclusive: bool = False  # nobody else gets slots of its hosts

    @property
    def ranks(self) -> int:
        return sum(len(slots) for _, slots in self.slots)

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for host, _ in self.slots)

    @property
    def ranked(self) -> list[tuple[str, int]]:
        """Host and slot of each rank."""
        return [(host, slot) for host, slots in self.slots for slot in slots]


class SlotPool:
    """The slots of all hosts."""

    def __init__(self, hosts: Mapping[str, int]):
        self.hosts = dict(hosts)
        self.open = {host: set(range(count)) for host, count in hosts.items()}  # slots that nobody has

    @property
    def total(self) -> int:
        """Slots of the hosts that are there."""
        return sum(self.hosts.values())

    @property
    def busy(self) -> int:
        """Slots that groups have, with those kept free around exclusive ones."""
        return self.total - sum(map(len, self.open.values()))

    def possible(self, request: SlotRequest) -> bool:
        """Whether a group would have a place if all slots were free."""
        return request.ranks <= self.total

    def order(self, requests: Iterable[SlotRequest]) -> list[SlotRequest]:
        """What is hardest to place comes first: the rest fills what it leaves.

        Groups that are alone need whole hosts. Were they before wider ones, those would never again find as many hosts
        free at one time, and would come last.
        """
        return sorted(requests, key=lambda request: (-self._width(request), not request.exclusive))

    def _width(self, request: SlotRequest) -> int:
        """Slots that a group has or keeps free."""
        largest = sorted(self.hosts.values(), reverse=True)[: self._needed(request.ranks)]
        return sum(largest) if request.exclusive else request.ranks

    def allocate(self, request: SlotRequest) -> Allocation | None:
        """Takes slots for one group; None while there are none."""
        slots: list[tuple[str, tuple[int, ...]]] = []
        left = request.ranks
        for host in self._chosen(request):
            taken = sorted(self.open[host])[:left]
            left -= len(taken)
            slots.append((host, tuple(taken)))
            self.open[host] -= self.open[host] if request.exclusive else set(taken)
        return Allocation(tuple(slots), request.exclusive) if slots else None

    def _chosen(self, request: SlotRequest) -> list[str]:
        """The host with just enough slots open; before it the most open ones, where one host is not enough.

        As few as an empty pool would need, or none. Of equal ones the first of the hostfile.
        """
        open_ = {host: len(slots) for host, slots in self.open.items()}
        if request.exclusive:
            open_ = {host: count for host, count in open_.items() if count == self.hosts[host]}
        chosen: list[str] = []
        left = request.ranks
        while left > 0 and open_:
            enough = [host for host in open_ if open_[host] >= left]
            host = min(enough, key=lambda one: open_[one]) if enough else max(open_, key=lambda one: open_[one])
            left -= open_.pop(host)
            chosen.append(host)
        return chosen if left <= 0 and len(chosen) <= self._needed(request.ranks) else []

    def _needed(self, ranks: int) -> int:
        """How many hosts so many ranks need when all slots are open."""
        count = 0
        for slots in sorted(self.hosts.values(), reverse=True):
            if ranks <= 0:
                break
            ranks -= slots
            count += 1
        return count

    def free(self, place: Allocation) -> None:
        """Gives back what `place` took; not of a host that was lost meanwhile."""
        for host, slots in place.slots:
            if host in self.open:
                assert not self.open[host] & set(slots), f"slots {slots} of {host} are free already"
                self.open[host] |= set(range(self.hosts[host])) if place.exclusive else set(slots)

    def lose(self, host: str) -> None:
        """Sets a host aside."""
        self.hosts.pop(host, None)
        self.open.pop(host, None)
