"""Checks of what is between hosts: ssh, timeouts, interfaces, ports."""

from __future__ import annotations

from collections.abc import Iterator

from bench.checks.doctor.facts import Facts
from bench.checks.doctor.findings import Verdict, fault, note, ok, warning
from bench.checks.doctor.hosts import Host, Hosts
from bench.cluster.network_interfaces import is_loopback, named_interfaces

CLOCK_SECONDS = 2.0
# what ssh says -> what to do
REMEDIES = {
    "host key verification failed": "accept its key: ssh {host} by hand, or ssh-keyscan {host} >> ~/.ssh/known_hosts",
    "permission denied": "ssh-copy-id {host}: ssh has to get there without a password",
    "could not resolve": "correct the name in the hostfile, or tell DNS or /etc/hosts of it",
    "connection refused": "start sshd there, or name its port: PDSH_SSH_ARGS_APPEND='-p PORT'",
    "directory: 'ssh'": "install ssh here (on Debian: apt-get install openssh-client)",
}
SILENT = "see that it is up and that port 22 is open to this machine, or take it out of the hostfile"
CHECKOUT = "have this checkout with its .venv at the same path there"
NAMES = "set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME here{to}: every rank gets them"


def reach(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """Whether ssh gets there without a password, and the same checkout answers."""
    if host.unreachable:
        said = host.unreachable.lower()
        remedy = next((remedy for words, remedy in REMEDIES.items() if words in said), SILENT)
        whom = "ssh to itself" if host.here else "ssh"
        itself = "; pdsh starts all ranks through ssh, those here, too" if host.here else ""
        yield fault(f"{whom}: {host.unreachable.removeprefix('ssh: ')}", remedy.format(host=host.name) + itself)
    if host.broken:
        yield fault(f"the probe: {host.broken}", CHECKOUT)
    twins = [one.name for one in hosts.running if one is not host and _same(one, host)] if host.slots != 0 else []
    if twins:
        yield fault(f"the same machine as {', '.join(twins)}", "give it one line in the hostfile, with all its slots")
    if host.facts and not host.unreachable and not twins:
        elsewhere = "this machine, no host of the hostfile" if host.slots == 0 else "this machine"
        yield ok(elsewhere if host.here else "by ssh, without a password")


def _same(one: Host, other: Host) -> bool:
    """Whether two names are one machine's: all addresses are the same."""
    addresses = [_addresses(host.facts) for host in (one, other)]
    return bool(addresses[0]) and addresses[0] == addresses[1]


def _addresses(facts: Facts | None) -> set[str]:
    found = facts.interfaces.values() if facts else ()
    return {address for addresses in found for address in addresses if not is_loopback(address)}


def clock(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """How far it is ahead, as far as the way there and back lets that be known."""
    if host.clock is None or host.here:
        return
    least, most = host.clock
    found = f"{(least + most) / 2:+.1f} s, known to {(most - least) / 2:.1f} s"
    if least > CLOCK_SECONDS or most < -CLOCK_SECONDS:
        yield warning(found, "run NTP: nothing of a run compares clocks of hosts, but times in records will not agree")
    else:
        yield ok(found)


def network(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """Which interface leads to the others, and whether the ranks would choose one that does."""
    facts = host.facts
    if facts is None or not hosts.several or host.slots == 0:
        return
    if host.address is None:
        yield fault("no address: its name resolves to none here", "tell DNS or /etc/hosts of it")
    used = sorted({name for name in facts.routes.values() if name})
    cut = sorted(other for other, name in facts.routes.items() if name is None)
    if cut:
        yield fault(f"no route to {', '.join(cut)}", "see to its addresses and routes (ip route)")
    wrong = list(_choices(facts, used))
    yield from wrong
    if not wrong and not cut and host.address:
        yield ok(f"{', '.join(used) or 'no interface'}, reached at {host.address}")


def _choices(facts: Facts, used: list[str]) -> Iterator[Verdict]:
    """What is wrong with the interfaces that NCCL and Gloo would take. Gloo takes exact names, and all of them."""
    chosen = facts.chosen_interfaces
    for variable, value in chosen.items():
        exact = value.split(",")
        named = [one for one in exact if one in facts.interfaces] if variable.startswith("GLOO") else []
        hits = named if len(named) == len(exact) else []
        if variable.startswith("NCCL"):
            hits = named_interfaces(value, list(facts.interfaces))
        if not hits:
            there = ", ".join(facts.interfaces)
            yield fault(f"{variable}={value} is none of its interfaces", f"name one that every host has; here: {there}")
        elif all(is_loopback(address) for name in hits for address in facts.interfaces[name]):
            yield fault(f"{variable}={value} is loopback", f"name one that leads to the others: {', '.join(used)}")
        elif used and not set(hits) & set(used):
            yield note(f"{variable}={value}; the way to the others is {', '.join(used)}")
    own = facts.own_addresses
    if "GLOO_SOCKET_IFNAME" not in chosen and (not own or all(map(is_loopback, own))):
        found = f"its own name {facts.own_name} is {own[0] if own else 'no address'}, where Gloo would listen"
        to = f" to {used[0]}" if used else ""
        yield fault(found, NAMES.format(to=to) + f", or give {facts.own_name} its real address in /etc/hosts")


def ports(host: Host, hosts: Hosts) -> Iterator[Verdict]:
    """Whether it reaches listeners on the other hosts."""
    if host.met is None:
        return
    failures = {other: why for other, why in host.met.items() if why is not None}
    for other, why in failures.items():
        remedy = "open all unprivileged TCP ports between the hosts: the ranks choose theirs among them"
        yield fault(f"{other} on a free port: {why}", remedy)
    if not failures:
        yield ok(f"reaches {len(host.met)} other{'s' if len(host.met) > 1 else ''} on free ports")
