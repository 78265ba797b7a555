"""The loop of a run, with ranks that are a script: what it makes of what they tell, and of what it cannot write."""

from __future__ import annotations

import contextlib
import errno
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import QUICK, Scripted

from bench.cluster import process_group
from bench.cluster.launchers import Group
from bench.cluster.leases import Leases
from bench.cluster.process_group import ProcessGroup
from bench.cluster.rank_supervisor import RUN_IS_GONE
from bench.cluster.slots import SlotPool, SlotRequest
from bench.cluster.timeouts import Timeouts
from bench.core import files
from bench.matrix.cell import Cell
from bench.records import store
from bench.records.record import Failure, Record
from bench.runner import loop
from bench.runner.cell_queue import CellQueue
from bench.runner.launch import Event, Launch, LaunchError
from bench.training import WORKER


@pytest.fixture
def scripted(tmp_path: Path) -> Scripted:
    (tmp_path / "scripts").mkdir()
    return Scripted(tmp_path / "scripts")


def run(
    scripted: Scripted,
    cells: list[Cell],
    results: Path,
    hosts: str = "",
    timeouts: Timeouts = QUICK,
    watch: Callable[[Event], None] = lambda event: None,
) -> list[str]:
    """What the run notes. `hosts`: with one slot each; else it has this machine."""
    hostfile = results.parent / "hosts"
    hostfile.write_text("".join(f"{host} slots=1\n" for host in hosts.split()))
    scripted.know(cells, results)
    notes: list[str] = []

    def both(event: Event) -> None:
        notes.append(event.note)
        watch(event)

    how = Launch(results, hostfile if hosts else None, launcher=scripted, timeouts=timeouts, worker=WORKER)
    loop.run(cells, how, both)
    return [note for note in notes if note]


def statuses(results: Path) -> Counter[str]:
    return Counter(record.status for record in store.read_all(results).records)


def by_seed(results: Path) -> dict[int, Record]:
    return {record.cell["seed"]: record for record in store.read_all(results).records}


def test_cells_whose_ranks_took_the_run_for_gone_run_again(scripted: Scripted, expand, tmp_path: Path) -> None:
    """As after Ctrl-Z and a while: it says nothing of the cell, which another run may have by then."""
    order = RUN_IS_GONE.replace(" ", "_")
    scripted.ends(f"{order} {order} ends")
    notes = run(scripted, expand(), tmp_path / "results")
    assert statuses(tmp_path / "results") == {"unsupported": 1}
    assert any("stood still" in note for note in notes)
    scripted.ends(order)
    run(scripted, expand({"seed": 1}), tmp_path / "results")
    assert statuses(tmp_path / "results") == {"unsupported": 1, "failed": 1}, "not for ever"


def test_a_cell_whose_end_nobody_tells_runs_once_more(scripted: Scripted, expand, tmp_path: Path) -> None:
    """A launcher that was killed, a connection that broke, a host that came back at once: nothing the cell has done."""
    results = tmp_path / "results"
    scripted.ends("vanishes ends")
    run(scripted, expand(), results)
    assert statuses(results) == {"unsupported": 1}
    scripted.ends("vanishes")
    run(scripted, expand({"seed": 1}), results)
    (failed,) = (record for record in store.read_all(results).records if record.status == "failed")
    assert failed.failure is not None and failed.failure.exception == "a process ended without a record: exit status 1"
    assert [one.exception for one in failed.lost] == [failed.failure.exception]


def test_ranks_that_do_not_come_together_cost_their_cell_and_no_host(
    scripted: Scripted, expand, tmp_path: Path
) -> None:
    """All hosts have started theirs, twice: the narrow cell runs on one of them."""
    scripted.ends("parted parted ends")
    notes = run(scripted, expand({"ranks": [1, 2]}), tmp_path / "results", "127.0.0.1 localhost")
    made = {record.cell["ranks"]: record for record in store.read_all(tmp_path / "results").records}
    assert {ranks: record.status for ranks, record in made.items()} == {1: "unsupported", 2: "failed"}
    failure = made[2].failure
    assert failure is not None and failure.phase == "start", failure
    assert failure.exception == "its ranks on 127.0.0.1, localhost did not come together: exit status 1"
    assert not notes


def test_a_rank_that_stands_still_costs_its_cell_alone(scripted: Scripted, expand, tmp_path: Path) -> None:
    scripted.ends("hangs ends")
    run(scripted, expand({"seed": [0, 1, 2]}), tmp_path / "results", timeouts=replace(QUICK, timeout=3))
    assert statuses(tmp_path / "results") == {"timeout": 1, "unsupported": 2}
    (hung,) = (record for record in by_seed(tmp_path / "results").values() if record.status == "timeout")
    assert hung.failure is not None and (hung.failure.rank, hung.failure.phase) == (0, "train")
    assert hung.failure.exception == "no rank made progress for 3 s: rank 0 on localhost is stopped"


def test_cells_of_a_host_that_does_not_answer_run_elsewhere_or_say_so(
    scripted: Scripted, expand, tmp_path: Path
) -> None:
    """The cell that it ran does so once; one that needs both hosts is not run."""
    scripted = replace(scripted, gone=frozenset({"127.0.0.1"}))
    scripted.ends("hangs", "127.0.0.1")
    scripted.ends("ends", "localhost")
    cells = expand({"seed": [0, 1, 2]}, include=[{"ranks": 2, "seed": 3}, {"ranks": 2, "seed": 4}])
    notes = run(scripted, cells, tmp_path / "results", "127.0.0.1 localhost")
    made = by_seed(tmp_path / "results")
    assert statuses(tmp_path / "results") == {"unsupported": 3, "node_lost": 2}
    assert "127.0.0.1 is set aside: does not answer; 1 slots are left" in notes
    first, second = (made[seed].failure for seed in (3, 4))
    assert (
        first
        and second
        and {first.exception, second.exception}
        == {
            "no answer from 127.0.0.1, and no record",
            "not run: needs 2 slots, 1 are left of 2",
        }
    )


def test_a_cell_that_lost_its_host_keeps_its_first_run(scripted: Scripted, expand, tmp_path: Path) -> None:
    scripted = replace(scripted, gone=frozenset({"127.0.0.1"}))
    scripted.ends("hangs", "127.0.0.1")
    scripted.ends("ends", "localhost")
    notes = run(scripted, expand({"seed": [0, 1]}), tmp_path / "results", "127.0.0.1 localhost")
    assert statuses(tmp_path / "results") == {"unsupported": 2}
    assert any("no answer from 127.0.0.1, and no record; it is run once more" in note for note in notes), notes
    queues = [file.read_text() for file in tmp_path.glob("results/.run/*/*/queue.jsonl")]
    lost = [queue.partition('"lost": [')[2].partition("]")[0] for queue in queues]
    assert sum("127.0.0.1" in one for one in lost) == 1, "the rank that writes the record knows of it"


def test_a_host_on_which_nothing_starts_is_set_aside(scripted: Scripted, expand, tmp_path: Path) -> None:
    scripted.ends("mute", "127.0.0.1")
    scripted.ends("held", "localhost")

    def watch(event: Event) -> None:
        if event.note.startswith("127.0.0.1 is set aside: processes do not start there"):
            (scripted.folder / "go").touch()

    run(scripted, expand({"seed": [0, 1, 2]}), tmp_path / "results", "127.0.0.1 localhost", watch=watch)
    assert (scripted.folder / "go").exists() and statuses(tmp_path / "results") == {"unsupported": 3}
    scripted.ends("mute", "localhost")
    with pytest.raises(LaunchError, match="the processes could not be started"):
        run(scripted, expand({"seed": 3}), tmp_path / "results")


def test_cells_that_another_run_has_are_waited_for(scripted: Scripted, expand, tmp_path: Path) -> None:
    """One gets its record there, another is given back and runs here."""
    results = tmp_path / "results"
    cells = expand({"seed": [0, 1, 2]})
    theirs = results / ".run" / "theirs"
    theirs.mkdir(parents=True)
    with Leases(results, theirs, QUICK) as other, contextlib.ExitStack() as held:
        assert other.claim(cells[0].name) and other.claim(cells[1].name)

        def goes_on() -> None:
            failure = Failure(phase="train", rank=0, host="a", exception="there")
            store.write(results, cells[0].without_result("failed", failure))
            other.release(cells[0].name)
            other.release(cells[1].name)

        held.callback(goes_on)

        def watch(event: Event) -> None:
            if "another run has the cells that are left" in event.note:
                held.close()

        scripted.ends("ends")
        notes = run(scripted, cells, results, watch=watch)
    assert statuses(results) == {"failed": 1, "unsupported": 2} and len(notes) == 1
    given = [line for file in results.glob(".run/*/*/queue.jsonl") for line in file.read_text().splitlines()]
    assert len([line for line in given if "end" not in line[:6]]) == 2, "what another run did is not done again"


def test_a_disk_that_is_full_when_a_group_starts_is_waited_for(
    scripted: Scripted, expand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [OSError(errno.ENOSPC, "No space left on device")] * 2
    write = files.write

    def sometimes(path: Path, content: str, mode: int = 0o644) -> None:
        if path.name == "group.json" and full:
            raise full.pop()
        write(path, content, mode)

    monkeypatch.setattr(process_group.files, "write", sometimes)
    scripted.ends("ends")
    run(scripted, expand(), tmp_path / "results", timeouts=replace(QUICK, room=0.01))
    assert statuses(tmp_path / "results") == {"unsupported": 1} and not full


def test_while_the_run_itself_stands_still_nobody_is_without_progress(scripted: Scripted, tmp_path: Path) -> None:
    place = SlotPool({"localhost": 1}).allocate(SlotRequest(1))
    assert place is not None
    scripted.ends("ends")
    running = ProcessGroup(
        Group(place, {"localhost": 1}, tmp_path, "127.0.0.1", 1), scripted, "", tmp_path / "lease", {}
    )
    try:
        running.poll()
        for stood_still, idle in ((0, 1000), (1000, Timeouts.still)):
            running.last_progress_at = time.monotonic() - 1000
            running.last_seen_at, running.last_poll_at = time.monotonic() - stood_still, float("-inf")
            running.poll()
            assert idle - 1 < time.monotonic() - running.last_progress_at < idle + 5
    finally:
        running.end()


def test_a_line_for_which_there_is_no_room_leaves_the_queue_as_it_was(scripted: Scripted, tmp_path: Path) -> None:
    place = SlotPool({"localhost": 1}).allocate(SlotRequest(1))
    assert place is not None
    scripted.ends("ends")
    running = ProcessGroup(
        Group(place, {"localhost": 1}, tmp_path, "127.0.0.1", 1), scripted, "", tmp_path / "lease", {}
    )
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


def test_nohup_is_heeded() -> None:
    script = """if True:
        import signal, sys
        if "heard" in sys.argv:  # the tests themselves may run under nohup
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        from bench.cluster.processes import stop_on_signals
        stop_on_signals()
        print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"""
    said = [
        subprocess.run(
            [*nohup, sys.executable, "-c", script, *heard], capture_output=True, text=True, check=True
        ).stdout
        for nohup, heard in (([], ["heard"]), (["nohup"], []))
    ]
    assert said == ["False\n", "True\n"]


def test_every_cell_that_would_run_out_of_memory_too_is_told_once(expand, tmp_path: Path) -> None:
    """But not those that another run works on."""
    cells = expand({"batch_size": [4, 8, 16, 32], "seed": [0, 1]})
    mine, theirs, events = tmp_path / ".run" / "mine", tmp_path / ".run" / "theirs", []
    for run in (mine, theirs):
        run.mkdir(parents=True)
    with Leases(tmp_path, theirs, QUICK) as other, Leases(tmp_path, mine, QUICK) as leases:
        made = CellQueue(cells, Launch(tmp_path, worker=WORKER), leases, events.append)
        request = next(iter(made.requests))
        first = made.take(request)
        assert first is not None and first.micro == 4
        larger = sorted(
            (cell for cell in cells if cell.seed == first.seed and cell is not first), key=lambda c: c.micro
        )
        assert other.claim(larger[0].name)
        failure = Failure(phase="train", rank=0, host="a", exception="no memory")
        store.write(tmp_path, first.without_result("out_of_memory", failure))
        made.done(first)
        told = [event.cell for event in events if event.kind == "done"]
        assert sorted(told) == sorted(cell.name for cell in (first, *larger[1:]))
        assert statuses(tmp_path) == {"out_of_memory": 3} and made.count(request) == 5
        second = made.take(request)
        assert second is not None and made.count(request) > 1
        made.fail(second, "out_of_memory", failure)
        assert statuses(tmp_path) == {"out_of_memory": 4}, "by the kernel: it may have been for others on the host"
