"""Whether hosts reach each other on ports of their own; run as a module, with an Invitation on stdin.

Each listens and connects to all others, until it has met everybody both ways or time is up. Prints a JSON object:
other host -> why it was not reached, null where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from bench.cluster.timeouts import Timeouts
from bench.core.settings import Settings

AT_ONCE = 64  # connections of a host's own


class Invitation(Settings):
    name: str  # of the host that is asked
    port: int  # on which it listens
    others: dict[str, tuple[str, int]]  # address and port of each
    timeouts: Timeouts


class Guest:
    """One host of a meeting."""

    def __init__(self, invitation: Invitation):
        self.invitation, self.timeouts = invitation, invitation.timeouts
        self.met: set[str] = set()  # who has connected to this one
        self.failures: dict[str, str | None] = dict.fromkeys(invitation.others, "never tried")
        self.everybody = asyncio.Event()
        self.doors = asyncio.Semaphore(AT_ONCE)

    async def attend(self) -> dict[str, str | None]:
        try:
            server = await asyncio.start_server(self._greet, None, self.invitation.port)
        except OSError as error:
            return dict.fromkeys(self.invitation.others, f"port {self.invitation.port}: {error.strerror}")
        async with server:
            with contextlib.suppress(asyncio.TimeoutError):
                everything = asyncio.gather(self.everybody.wait(), *map(self._reach, self.invitation.others))
                await asyncio.wait_for(everything, self.timeouts.meet)
        return self.failures

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says who is here to somebody who has said the same."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            name = (await asyncio.wait_for(reader.readline(), self.timeouts.meet_try)).decode(errors="replace").strip()
            writer.write(f"{self.invitation.name}\n".encode())
            await writer.drain()
            self.met.add(name)
        writer.close()
        if self.met >= set(self.invitation.others):
            self.everybody.set()

    async def _reach(self, other: str) -> None:
        """Tries until it works; others may begin later."""
        address, port = self.invitation.others[other]
        while self.failures[other] is not None:
            try:
                async with self.doors:
                    answer = await asyncio.wait_for(self._ask(address, port), self.timeouts.meet_try)
                self.failures[other] = None if answer == other else f"{address} is another host"
            except asyncio.TimeoutError:
                self.failures[other] = f"{address} does not answer"
            except OSError as error:
                self.failures[other] = f"{address}: {error.strerror or error}"
            if self.failures[other] is not None:
                await asyncio.sleep(self.timeouts.meet_again)

    async def _ask(self, address: str, port: int) -> str:
        reader, writer = await asyncio.open_connection(address, port)
        try:
            writer.write(f"{self.invitation.name}\n".encode())
            return (await reader.readline()).decode(errors="replace").strip()
        finally:
            writer.close()


async def meet(invitation: Invitation) -> dict[str, str | None]:
    return await Guest(invitation).attend()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(meet(Invitation.model_validate_json(sys.stdin.read())))))
