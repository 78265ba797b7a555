"""Addresses of this machine and of hosts, and which interface they are on; nothing is sent but questions for names."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Sequence

import psutil

OUTSIDE = "198.51.100.1"  # RFC 5737; only asked which way it would be


def is_here(host: str, seconds: float) -> bool:
    """Whether a name or address is this machine's. A name that is not resolved in so many seconds is not."""
    own = {address for addresses in interfaces().values() for address in addresses}
    return host in ("localhost", socket.gethostname()) or any(
        is_loopback(one) or one in own for one in addresses_of(host, seconds)
    )


def addresses_of(host: str, seconds: float) -> list[str]:
    """What `host` resolves to, IPv4 first; nothing when it does not, or not in time."""
    found: list[tuple[bool, str]] = []

    def resolve() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found.extend((family != socket.AF_INET, str(place[0])) for family, _, _, _, place in answers)

    thread = threading.Thread(target=resolve, daemon=True)  # a resolver cannot be interrupted
    thread.start()
    thread.join(seconds)
    return [address for _, address in sorted(found, key=lambda one: one[0])]


def is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def interfaces() -> dict[str, list[str]]:
    """Addresses of each interface that is up, IPv4 first, without those that only neighbours know."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    kinds = (socket.AF_INET, socket.AF_INET6)
    found: dict[str, list[str]] = {}
    for name, addresses in psutil.net_if_addrs().items():
        usable = sorted((one for one in addresses if one.family in kinds), key=lambda one: kinds.index(one.family))
        if name in up and (texts := [one.address for one in usable if not one.address.startswith("fe80:")]):
            found[name] = texts
    return found


def named_interfaces(value: str, names: Sequence[str]) -> list[str]:
    """Which of `names` an NCCL_SOCKET_IFNAME means: `eth,ib` by how they begin, `=eth0` exactly, `^lo` others."""
    exact, parts = "=" in value[:2], [part for part in value.lstrip("^=").split(",") if part]
    hits = [name for name in names if any(name == part or (not exact and name.startswith(part)) for part in parts)]
    return [name for name in names if name not in hits] if value.startswith("^") else hits


def own_address() -> str:
    """Of this machine, as `address_of` says; loopback's where there is nothing else."""
    outer = {name: found for name, found in interfaces().items() if not all(is_loopback(one) for one in found)}
    for variable in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        if hits := named_interfaces(os.environ.get(variable, ""), list(outer)):
            return outer[hits[0]][0]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((OUTSIDE, 9))
        return str(probe.getsockname()[0])
    return next(iter(outer.values()), ["127.0.0.1"])[0]
