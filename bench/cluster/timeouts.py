"""How long a run and its processes wait: one object, which travels with a launch. It imports nothing: guards read it.

The launcher writes it into group.json, where guards, ranks and agents find it. The command line takes it from the
environment variable BENCH_TIMEOUTS, for storage, networks and machines that are slower than most.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

VARIABLE = "BENCH_TIMEOUTS"
OLD_VARIABLE = "BENCH_CLOCKS"  # as it was called before version 0.2
LEAST, MOST = 1e-6, 1e6  # of a field, in seconds
FACTORS = (0.01, 1000.0)  # that BENCH_TIMEOUTS may name


@dataclass(frozen=True)
class Timeouts:
    """All fields are in seconds. ValueError where two of them do not go together; a line names each fault."""

    # of a run
    poll: float = 0.1  # between two looks at its groups
    timeout: float = 600.0  # without progress of any rank, after which a group is ended
    silence: float = 20.0  # without progress, after which the hosts of a group are asked whether they are there
    ask_again: float = 5.0  # between two questions to a host that has not answered
    reach: float = 10.0  # for a host to answer by ssh, or to have room for a step of srun
    step: float = 15.0  # for such a step to end
    resolve: float = 3.0  # for a name to be resolved
    elsewhere: float = 2.0  # between two looks at the cells of other runs
    room: float = 5.0  # until the next try to write where there is no room; of ranks, too
    still: float = 30.0  # between two looks; where it is longer, this process or the storage stood still, not the ranks
    end: float = 10.0  # for ranks to end by themselves after they are asked to, or after another one has failed
    killed: float = 10.0  # for killed processes to be gone
    # of its lease
    lease: float = 60.0  # without a touch, after which other runs take its cells
    touch: float = 5.0  # between two touches
    # of a guard
    look: float = 0.2  # between two looks at its rank
    beat: float = 1.0  # between two reports on its rank, and two looks at the lease and the order to stop
    orphan: float = 30.0  # without a touch of the lease, after which it ends its rank
    # of a rank
    queue: float = 0.02  # between two looks for the next cell
    echo: float = 10.0  # for the launcher to see another rank's end, which broke a collective of this one
    # of a preflight
    join: float = 600.0  # for a group to be together
    probe: float = 120.0  # for one probe
    agree: float = 3.0  # for ranks to find out that all of them were refused
    # of agents
    agent_look: float = 0.5  # between two looks at the results folder; of what waits for agents, too
    agent_beat: float = 2.0  # between two touches of its file
    agent_gone: float = 10.0  # without such a touch, after which its host does not answer
    agent_stop: float = 15.0  # for all agents to end their parts of a group and to say so
    # of the doctor
    greet: float = 8.0  # for a host to answer by ssh
    answer: float = 30.0  # for a host to find its facts, or to meet the others
    meet: float = 10.0  # for hosts to connect to each other
    meet_try: float = 2.0  # for one connection
    meet_again: float = 0.2  # between two tries
    gpus: float = 15.0  # for nvidia-smi, which wakes up the driver where there is no daemon
    hub: float = 3.0  # for the Hugging Face hub to answer

    def __post_init__(self) -> None:
        if wrong := [*self._no_seconds()] or [*self._at_odds()]:
            raise ValueError("\n".join(wrong))

    def scaled(self, factor: float) -> Timeouts:
        """All of them times `factor`."""
        return Timeouts(**{name: value * factor for name, value in vars(self).items()})

    def _no_seconds(self) -> Iterator[str]:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST <= value <= MOST:
                yield f"{name}: found {value!r}, expected seconds from {LEAST:g} to {MOST:g}"

    def _at_odds(self) -> Iterator[str]:
        for less, times, more, why in RULES:
            least = getattr(self, less) * times
            if getattr(self, more) < least * (1 - 1e-9):  # rounding of a scale
                yield f"{more}: found {getattr(self, more):g}, expected at least {least:g}, {times:g} x {less}: {why}"


# the second is at least so many times the first, and why
RULES = (
    ("touch", 3, "orphan", "one touch that comes late must not look like the end of a run"),
    ("beat", 3, "orphan", "a guard counts its looks at the lease"),
    ("touch", 6, "lease", "one touch that comes late must not cost a run its cells"),
    ("orphan", 1.5, "lease", "ranks have to end before another run takes their cells"),
    ("look", 1, "beat", "a guard reports when it looks"),
    ("beat", 2, "silence", "progress is seen once a beat"),
    ("beat", 3, "end", "an order to stop is seen once a beat"),
    ("agent_look", 3, "end", "an agent sees that its part has to end when it looks"),
    ("end", 1.2, "agent_stop", "an agent says that its part has ended after it has"),
    ("agent_look", 1, "agent_beat", "an agent touches its file when it looks"),
    ("agent_beat", 3, "agent_gone", "one touch that comes late must not look like the end of an agent"),
    ("reach", 1.2, "step", "a step waits for room first"),
    ("meet", 1.5, "answer", "an answer takes a Python's start more"),
    ("meet_try", 1, "meet", "one try has to end within the meeting"),
    ("hub", 1, "answer", "the hub is asked within the answer"),
)


def chosen(environment: Mapping[str, str], timeout: float | None = None) -> Timeouts:
    """What BENCH_TIMEOUTS says, a factor for all or a JSON object of fields; `timeout` counts more than it does.

    InputError when it says neither.
    """
    from bench.core.settings import InputError, Problem

    if OLD_VARIABLE in environment:
        raise InputError("environment", [Problem(OLD_VARIABLE, f"is called {VARIABLE} now")])
    own = {} if timeout is None else {"timeout": timeout}
    text = environment.get(VARIABLE, "")
    try:
        return replace(_read(text) if text else Timeouts(), **own)
    except ValueError as error:
        problems = [Problem(VARIABLE, line) for line in str(error).splitlines()]
        raise InputError("environment", problems) from error


def _read(text: str) -> Timeouts:
    from bench.core.settings import shown, unknown

    names = [one.name for one in fields(Timeouts)]
    least, most = FACTORS
    example = '{"lease": 300}'
    neither = f"found {shown(text)}, expected a factor from {least:g} to {most:g}, or fields as {example}"
    try:
        value: Any = json.loads(text)
    except ValueError:
        raise ValueError(neither) from None
    if isinstance(value, dict):
        if strange := [name for name in value if name not in names]:
            raise ValueError("\n".join(f"unknown field: {unknown(name, names)}" for name in strange))
        return Timeouts(**value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(neither)
    return Timeouts().scaled(value)
