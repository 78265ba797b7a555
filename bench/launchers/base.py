"""What a launcher is: the way in which the ranks of a group are started."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.schedule import Place


@dataclass(frozen=True)
class Group:
    """One group of processes, before it is started."""

    place: Place
    work: Path  # its folder, on disk that all its hosts share; group.json is there
    address: str  # where rank 0 listens, as the other hosts reach it
    port: int
    arguments: tuple[str, ...] = field(default=())  # further ones of the user, for what starts the ranks


class Launcher(Protocol):
    name: str  # as `--launcher` takes it

    def missing(self) -> str | None:
        """What this machine lacks for it, in a sentence with what to do; None: nothing."""
        ...

    def command(self, group: Group) -> list[str]:
        """What starts `python -m bench.guard WORK` for every rank of `group`, and lasts as long as they do."""
        ...

    def variables(self, group: Group) -> dict[str, str]:
        """To be set for the command, beside the user's own."""
        ...

    def reachable(self, host: str) -> bool:
        """Whether `host` answers; takes a few seconds if it does not."""
        ...

    def ends_by_signal(self, group: Group) -> bool:
        """Whether SIGTERM to the command ends the ranks of this group, and no others."""
        ...
