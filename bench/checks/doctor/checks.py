"""From what is known of hosts to findings, each with what to do: pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.checks.doctor import machine, network, storage
from bench.checks.doctor.findings import Finding, Verdict
from bench.checks.doctor.hosts import Host, Hosts

# in the order of rows; each gives one row, or one for each thing that is wrong, or none where it does not apply
CHECKS: dict[str, Callable[[Host, Hosts], Iterator[Verdict]]] = {
    "reach": network.reach,
    "code": machine.code,
    "GPUs": machine.gpus,
    "memory": machine.memory,
    "results": storage.results,
    "data": storage.data,
    "caches": storage.caches,
    "network": network.network,
    "ports": network.ports,
    "clock": network.clock,
    "compilers": machine.compilers,
    "hub": storage.hub,
    "launchers": machine.launchers,
}


def check(hosts: Hosts) -> list[Finding]:
    """Host by host."""
    return [
        Finding(host.name, name, *verdict)
        for host in hosts.every
        for name, judge in CHECKS.items()
        for verdict in judge(host, hosts)
    ]
