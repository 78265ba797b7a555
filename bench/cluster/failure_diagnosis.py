"""How a group of processes ended, told from what its guards and hosts say: which rank, on which host, and why."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.cluster.heartbeat import Beat, Exit
from bench.cluster.process_group import ProcessGroup
from bench.cluster.rank_supervisor import ORDERS, RUN_IS_GONE
from bench.records.record import Failure, Status

ASKS = 3  # how often a host is asked before it is said to be gone
TOLD = 3  # exit status of a rank that has told how its cell failed
STOPPED = ("stopped", "tracing-stop")  # states of a process that does not run


@dataclass(frozen=True)
class StallReport:
    """That a group made no progress for too long."""

    seconds: float
    beats: list[Beat]  # of its ranks at that time, before they were ended


def unreachable_hosts(group: ProcessGroup) -> list[str]:
    """Those of its hosts that do not answer, asked some times; takes up to a minute when there are any."""
    left = list(group.group.allocation.hosts)
    for ask in range(ASKS):
        time.sleep(group.timeouts.ask_again if ask else 0)
        with ThreadPoolExecutor(len(left)) as pool:
            answers = list(pool.map(lambda host: _answers(group, host), left))
        left = [host for host, answer in zip(left, answers, strict=True) if not answer]
        if not left:
            break
    return left


def _answers(group: ProcessGroup, host: str) -> bool:
    """One that cannot be asked is not said to be gone."""
    try:
        return group.launcher.reachable(host, group.timeouts)
    except (OSError, KeyError):  # no process could be started; this user has no name
        return True


def failure_of(group: ProcessGroup, cell: str, lost: list[str], stall: StallReport | None) -> tuple[Status, Failure]:
    """Of the cell that was running when the group ended without its record.

    `lost`: hosts that do not answer. `stall`: why it was ended; None: it ended itself.
    """
    last = max((beat for beat in group.beats if beat.cell == cell), key=lambda beat: beat.step, default=None)
    if lost:
        names = ", ".join(lost)
        return "node_lost", _failure(group, last, None, lost[0], f"no answer from {names}, and no record")
    if (first := first_failed_rank(group.exits)) is not None:
        ended = how_ended(first.code)
        if first.out_of_memory:
            ended += " by the kernel, which had no memory left on this host"
        status: Status = "out_of_memory" if first.out_of_memory else "failed"
        return status, _failure(
            group, last, first.rank, first.host, f"rank {first.rank} on {first.host} ended without a record: {ended}"
        )
    if stall is not None:
        beat, what = _blamed(stall.beats)
        why = f"no rank made progress for {stall.seconds:g} s: {what}"
        return "timeout", _failure(group, last, beat.rank if beat else None, beat.host if beat else None, why)
    return "failed", _failure(group, last, None, None, f"a process ended without a record: {how_it_ended(group)}")


def how_it_ended(group: ProcessGroup) -> str:
    """In words: by its guards, else by the first process that DeepSpeed's launcher saw end, else by the launcher."""
    if (first := first_failed_rank(group.exits)) is not None:
        return how_ended(first.code)
    if orders := {one.order for one in group.exits if one.order} & set(ORDERS):
        return ", ".join(sorted(orders))
    named = re.findall(r"exits with return code = (-?\d+)", "\n".join(group.log(200)))
    return how_ended(int(named[-1]) if named else group.session.poll())


def deserted_by_run(group: ProcessGroup) -> bool:
    """Whether its guards ended it because they took this run for gone, which stood still for longer than they wait."""
    return first_failed_rank(group.exits) is None and any(one.order == RUN_IS_GONE for one in group.exits)


def first_failed_rank(exits: list[Exit]) -> Exit | None:
    """Who ended first, by a signal from outside or without a word: not by the run's order or another rank's end."""
    own = [one for one in exits if not one.order and one.code not in (0, TOLD)]
    return min(own, key=lambda one: (one.code >= 0, one.rank), default=None)


def how_ended(code: int | None) -> str:
    number = -code if code and code < 0 else (code or 0) - 128  # a shell, and a guard, add 128
    if number in set(signal.Signals):
        return f"ended by {signal.Signals(number).name}"
    return f"exit status {code}"


def hosts_without_ranks(group: ProcessGroup) -> list[str]:
    """Hosts of which no rank has told anything: there processes do not start."""
    told = {beat.host for beat in group.beats}
    return [host for host in group.group.allocation.hosts if host not in told]


def rendezvous_failure(group: ProcessGroup) -> Failure:
    """Of a group whose ranks all started, and ended before they were together."""
    hosts = ", ".join(group.group.allocation.hosts)
    return _failure(group, None, None, None, f"its ranks on {hosts} did not come together: {how_it_ended(group)}")


def _blamed(beats: list[Beat]) -> tuple[Beat | None, str]:
    """Whom the others wait for, if that can be seen."""
    for beat in beats:
        if beat.state in STOPPED:
            return beat, f"rank {beat.rank} on {beat.host} is stopped"
    at = Counter((beat.cell, beat.phase, beat.step) for beat in beats)
    if len(at) > 1:
        behind = min(beats, key=lambda beat: (at[beat.cell, beat.phase, beat.step], beat.progress_count))
        return behind, f"rank {behind.rank} on {behind.host} is in {behind.phase or 'start'}, step {behind.step}"
    if len(marks := {beat.progress_count for beat in beats}) > 1:
        behind = min(beats, key=lambda beat: beat.progress_count)
        return (
            behind,
            f"rank {behind.rank} on {behind.host} is behind by {max(marks) - behind.progress_count} signs of progress",
        )
    return None, "all ranks are in the same place"


def _failure(group: ProcessGroup, last: Beat | None, rank: int | None, host: str | None, why: str) -> Failure:
    return Failure(
        phase=last.phase if last and last.phase else "start",
        rank=rank,
        host=host,
        exception=why,
        step=last.step if last else None,
        log=tuple(group.log()),
    )
