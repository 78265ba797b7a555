"""What is known of the hosts, before it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.checks.doctor.facts import Facts


@dataclass(frozen=True)
class Host:
    name: str  # in the hostfile
    slots: int | None  # 0: ranks are only started from it, or none at all; None: there is no hostfile
    here: bool  # where `bench doctor` runs
    unreachable: str | None = None  # why ssh does not get there
    clock: tuple[float, float] | None = None  # seconds between which it is ahead of this machine's
    address: str | None = None  # where other hosts reach it
    broken: str | None = None  # why the probe gave no facts
    facts: Facts | None = None
    replied: bool = False  # whether what it wrote into the results was read here
    met: Mapping[str, str | None] | None = None  # other host -> why it does not reach that; None: it does


@dataclass(frozen=True)
class Hosts:
    every: tuple[Host, ...]
    planted: frozenset[str]  # folders of this machine's that hosts looked for a token in
    torn: tuple[str, ...] = ()  # what is wrong with paths that go through remote shells

    @property
    def running(self) -> list[Host]:
        """Those that ranks would be started on."""
        return [host for host in self.every if host.slots != 0]

    @property
    def several(self) -> bool:
        """Whether ranks of one cell can be on different hosts."""
        return len(self.running) > 1

    @property
    def here(self) -> Host:
        return next(host for host in self.every if host.here)
