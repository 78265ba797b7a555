"""The loop of a run, with ranks that are a script: what it makes of what they tell, and of what it cannot write."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import files, group, guard, launch, records
from bench.clocks import Clocks
from bench.group import Running
from bench.guard import RUN_IS_GONE
from bench.launch import Event, Launch
from bench.launchers import DeepSpeed, Group
from bench.leases import Leases
from bench.records import Failure
from bench.schedule import Lane, Pool
from bench.waiting import Waiting

RANK = """
import json, sys, time
from pathlib import Path
from bench import heartbeat, records
from bench.cells import rebuild
from bench.heartbeat import Beat, Exit
from bench.records import Failure

work, endings = Path(sys.argv[1]), Path(sys.argv[2])
ending, _, left = endings.read_text().partition(" ")
endings.write_text(left or ending)
described = json.loads((work / "group.json").read_text())
results = Path(described["results"])
if ending == "parted":
    for rank, (host, _) in enumerate(described["ranks"]):
        heartbeat.write(work, Beat(rank, host))
    sys.exit(1)
done = 0
while '{"end": true}' not in (lines := (work / "queue.jsonl").read_text().splitlines()):
    time.sleep(0.02)
    for line in map(json.loads, lines[done:]):
        cell = rebuild(line["cell"])
        beat = Beat(0, "localhost", cell.name, "train", marks=1)
        heartbeat.write(work, beat)
        if ending == "vanishes":
            sys.exit(1)
        if ending != "ends":
            heartbeat.write_exit(work, Exit(0, "localhost", -9, ending.replace("_", " ")))
            heartbeat.write(work, beat._replace(state=heartbeat.ENDED))
            sys.exit(1)
        failure = Failure(phase="train", rank=0, host="localhost", exception="as it ends here")
        records.write(results, cell.without_result("unsupported", failure))
        done += 1
"""


@dataclass(frozen=True)
class Scripted(DeepSpeed):
    """`endings`: how each group ends, in a file: a guard's order, `parted` before its first cell, `vanishes` in it, or
    `ends` with its cells' records."""

    endings: Path

    def missing(self) -> str | None:
        return None

    def command(self, group: Group) -> list[str]:
        return [sys.executable, "-c", RANK, str(group.work), str(self.endings)]


@pytest.fixture
def scripted(tmp_path: Path) -> Scripted:
    return Scripted(tmp_path / "endings")


def statuses(results: Path) -> Counter[str]:
    return Counter(record.status for record in records.read_all(results).records)


def test_cells_whose_ranks_took_the_run_for_gone_run_again(scripted: Scripted, expand, tmp_path: Path) -> None:
    """As after Ctrl-Z and a while: it says nothing of the cell, which another run may have by then."""
    order = RUN_IS_GONE.replace(" ", "_")
    events: list[Event] = []
    scripted.endings.write_text(f"{order} {order} ends")
    launch.run(expand(), Launch(tmp_path / "results", launcher=scripted), events.append)
    assert statuses(tmp_path / "results") == {"unsupported": 1}
    assert any("stood still" in event.note for event in events)
    scripted.endings.write_text(order)
    launch.run(expand({"seed": 1}), Launch(tmp_path / "results", launcher=scripted), events.append)
    assert statuses(tmp_path / "results") == {"unsupported": 1, "failed": 1}, "not for ever"


def test_a_cell_whose_end_nobody_tells_runs_once_more(scripted: Scripted, expand, tmp_path: Path) -> None:
    """A launcher that was killed, a connection that broke, a host that came back at once: nothing the cell has done."""
    results = tmp_path / "results"
    scripted.endings.write_text("vanishes ends")
    launch.run(expand(), Launch(results, launcher=scripted), lambda event: None)
    assert statuses(results) == {"unsupported": 1}
    scripted.endings.write_text("vanishes")
    launch.run(expand({"seed": 1}), Launch(results, launcher=scripted), lambda event: None)
    (failed,) = (record for record in records.read_all(results).records if record.status == "failed")
    assert failed.failure is not None and failed.failure.exception == "a process ended without a record: exit status 1"
    assert [one.exception for one in failed.lost] == [failed.failure.exception]


def test_ranks_that_do_not_come_together_cost_their_cell_and_no_host(
    scripted: Scripted, expand, tmp_path: Path
) -> None:
    """All hosts have started theirs, twice: the narrow cell runs on one of them."""
    hostfile = tmp_path / "hosts"
    hostfile.write_text("127.0.0.1 slots=1\nlocalhost slots=1\n")
    scripted.endings.write_text("parted parted ends")
    how = Launch(tmp_path / "results", hostfile, launcher=scripted)
    notes: list[str] = []
    launch.run(expand({"ranks": [1, 2]}), how, lambda event: notes.append(event.note))
    made = {record.cell["ranks"]: record for record in records.read_all(tmp_path / "results").records}
    assert {ranks: record.status for ranks, record in made.items()} == {1: "unsupported", 2: "failed"}
    failure = made[2].failure
    assert failure is not None and failure.phase == "start", failure
    assert failure.exception == "its ranks on 127.0.0.1, localhost did not come together: exit status 1"
    assert not any(notes), notes


def test_a_disk_that_is_full_when_a_group_starts_is_waited_for(
    scripted: Scripted, expand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [OSError(errno.ENOSPC, "No space left on device")] * 2
    write = files.write

    def sometimes(path: Path, content: str, mode: int = 0o644) -> None:
        if path.name == "group.json" and full:
            raise full.pop()
        write(path, content, mode)

    monkeypatch.setattr(group.files, "write", sometimes)
    scripted.endings.write_text("ends")
    how = Launch(tmp_path / "results", launcher=scripted, clocks=Clocks(room=0.01))
    launch.run(expand(), how, lambda event: None)
    assert statuses(tmp_path / "results") == {"unsupported": 1} and not full


def test_while_the_run_itself_stands_still_nobody_is_without_progress(scripted: Scripted, tmp_path: Path) -> None:
    place = Pool({"localhost": 1}).place(Lane(1))
    assert place is not None
    scripted.endings.write_text("ends")
    running = Running(Group(place, {"localhost": 1}, tmp_path, "127.0.0.1", 1), scripted, "", tmp_path / "lease", {})
    try:
        running.look()
        for stood_still, idle in ((0, 1000), (1000, Clocks.still)):
            running.news = time.monotonic() - 1000
            running.seen, running.looked = time.monotonic() - stood_still, float("-inf")
            running.look()
            assert idle - 1 < time.monotonic() - running.news < idle + 5
    finally:
        running.end()


def test_a_line_for_which_there_is_no_room_leaves_the_queue_as_it_was(scripted: Scripted, tmp_path: Path) -> None:
    place = Pool({"localhost": 1}).place(Lane(1))
    assert place is not None
    scripted.endings.write_text("ends")
    running = Running(Group(place, {"localhost": 1}, tmp_path, "127.0.0.1", 1), scripted, "", tmp_path / "lease", {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        with pytest.raises(OSError, match="No space left"):
            running.feed({"end": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        running.end()
    running.feed({"end": True})
    assert (tmp_path / "queue.jsonl").read_text() == '{"end": true}\n'


@pytest.mark.parametrize(
    ("launcher", "own", "devices", "expected"),
    [
        (
            "pdsh",
            "1,2",
            "4,5,6",
            "5,6",
        ),  # deepspeed's launcher has put slots there, which are numbers within the user's
        ("pdsh", "1,2", None, "1,2"),
        ("pdsh", "1,2", "", ""),  # the user wants none to be used
        ("slurm", "4,5,6", None, "5,6"),
        ("slurm", None, None, "1,2"),
        ("openmpi", "", None, ""),
    ],
)
def test_ranks_see_the_gpus_of_their_slots(launcher: str, own: str | None, devices: str | None, expected: str) -> None:
    described = {
        "launcher": launcher,
        "ranks": [["a", 0], ["b", 1], ["b", 2]],
        "alone": False,
        "slots": {"a": 8, "b": 8},
    }
    described |= {
        "variables": {"HF_X": "sent", "HF_Y": "sent"},
        "devices": devices,
        "address": "192.0.2.1",
        "port": 20000,
    }
    told = {"RANK": "2", "SLURM_PROCID": "2", "OMPI_COMM_WORLD_RANK": "2", "HF_X": "set on the host"}
    found = guard._variables(described, told | ({} if own is None else {"CUDA_VISIBLE_DEVICES": own}))
    assert found["CUDA_VISIBLE_DEVICES"] == expected
    assert (found["HF_X"], found["HF_Y"], found["BENCH_HOST"]) == ("set on the host", "sent", "b")
    if launcher != "pdsh":
        assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"], found["LOCAL_SIZE"]) == ("2", "1", "3", "2")


def test_nohup_is_heeded() -> None:
    script = """if True:
        import signal
        from bench.processes import stop_on_signals
        stop_on_signals()
        print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"""
    said = [
        subprocess.run([*nohup, sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for nohup in ([], ["nohup"])
    ]
    assert said == ["False\n", "True\n"]


def test_every_cell_that_would_run_out_of_memory_too_is_told_once(expand, tmp_path: Path) -> None:
    """But not those that another run works on."""
    cells = expand({"batch_size": [4, 8, 16, 32], "seed": [0, 1]})
    mine, theirs, events = tmp_path / ".run" / "mine", tmp_path / ".run" / "theirs", []
    for run in (mine, theirs):
        run.mkdir(parents=True)
    with Leases(tmp_path, theirs, Clocks()) as other, Leases(tmp_path, mine, Clocks()) as leases:
        made = Waiting(cells, Launch(tmp_path), leases, events.append)
        lane = next(iter(made.lanes))
        first = made.take(lane)
        assert first is not None and first.micro == 4
        larger = sorted(
            (cell for cell in cells if cell.seed == first.seed and cell is not first), key=lambda c: c.micro
        )
        assert other.claim(larger[0].name)
        failure = Failure(phase="train", rank=0, host="a", exception="no memory")
        records.write(tmp_path, first.without_result("out_of_memory", failure))
        made.done(first)
        told = [event.cell for event in events if event.kind == "done"]
        assert sorted(told) == sorted(cell.name for cell in (first, *larger[1:]))
        assert statuses(tmp_path) == {"out_of_memory": 3} and made.count(lane) == 5
        second = made.take(lane)
        assert second is not None and made.count(lane) > 1
        made.fail(second, "out_of_memory", failure)
        assert statuses(tmp_path) == {"out_of_memory": 4}, "by the kernel: it may have been for others on the host"
