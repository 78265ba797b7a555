"""Claims on cells, made by real processes that end in every way; and the races that time would seldom make."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from bench.cluster.leases import Leases
from bench.cluster.run_identity import RunIdentity
from bench.cluster.timeouts import Timeouts
from bench.core import files

SPAWN = multiprocessing.get_context("spawn")
CLOCKS = Timeouts().scaled(1 / 50)  # leases last 1.2 seconds
QUICK = Timeouts().scaled(1 / 500)
TOUCHES = round(Timeouts.lease / Timeouts.touch)  # in the time of a lease


def run_folder(results: Path, name: str) -> Path:
    folder = results / ".run" / name
    folder.mkdir(parents=True)
    return folder


def leases(results: Path, name: str, timeouts: Timeouts = CLOCKS) -> Leases:
    return Leases(results, run_folder(results, name), timeouts)


def claims(results: Path) -> list[str]:
    return sorted(os.listdir(results / ".run" / "claims"))


def serve(results: Path, name: str, told: Connection) -> None:
    """A run that does what it is told: a method of Leases and its arguments a line; None ends it."""
    with leases(results, name) as mine:
        while (line := told.recv()) is not None:
            method, *arguments = line
            if method == "claim all":
                told.send([cell for cell in arguments if mine.claim(cell)])
            else:
                told.send(getattr(mine, method)(*arguments))


class Run:
    """Such a run in a process of its own."""

    def __init__(self, results: Path, name: str):
        self.told, theirs = SPAWN.Pipe()
        self.process: BaseProcess = SPAWN.Process(target=serve, args=(results, name, theirs))
        self.process.start()
        theirs.close()

    def tell(self, *line: Any) -> None:
        self.told.send(line)

    def ask(self, *line: Any) -> Any:
        self.tell(*line)
        return self.told.recv()

    def signal(self, which: signal.Signals) -> None:
        assert self.process.pid
        os.kill(self.process.pid, which)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def close(self) -> None:
        """A clean end."""
        self.told.send(None)
        self.process.join()
        assert self.process.exitcode == 0


@contextmanager
def runs(results: Path, *names: str) -> Iterator[list[Run]]:
    started = [Run(results, name) for name in names]
    try:
        yield started
    finally:
        for run in started:
            run.kill()


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def claimed_at_once(several: list[Run], cells: list[str]) -> list[str]:
    """What all of them have together after each has asked for every cell, in an order of its own."""
    for run in several:
        assert run.ask("claimed") is not None  # it is up
    for number, run in enumerate(several):
        run.tell("claim all", *random.Random(number).sample(cells, len(cells)))
    return [cell for run in several for cell in run.told.recv()]


def test_of_eight_runs_each_cell_is_claimed_by_one(tmp_path: Path) -> None:
    cells = [f"cell.{number}" for number in range(200)]
    with runs(tmp_path, *"abcdefgh") as several:
        assert sorted(claimed_at_once(several, cells)) == sorted(cells)
        assert len(claims(tmp_path)) == 200
        holders = several[0].ask("claimed")
        mine = [cell for cell in cells if several[0].ask("holder", cell) is None]
        assert holders.keys() == set(cells) - set(mine)
        assert f", pid {several[1].process.pid}" in "".join(holders.values())
        for run in several:
            run.close()
        assert not claims(tmp_path) and not list(tmp_path.glob(".run/*/lease"))


def test_what_a_killed_run_had_goes_to_one_of_the_others_at_once(tmp_path: Path) -> None:
    cells = [f"cell.{number}" for number in range(50)]
    with runs(tmp_path, *"abcde") as (first, *others):
        assert first.ask("claim all", *cells) == cells
        assert all(other.ask("claim all", *cells) == [] for other in others)
        first.kill()
        assert sorted(claimed_at_once(others, cells)) == sorted(cells)
        assert claims(tmp_path) == sorted(f"{cell}.2" for cell in cells), "the claims of the killed run are gone"


def test_a_run_that_stands_still_loses_its_cells_when_its_lease_is_over(tmp_path: Path) -> None:
    """And when it goes on it releases nothing of the run that took over."""
    with runs(tmp_path, "a", "b") as (first, second):
        assert first.ask("claim", "cell")
        first.signal(signal.SIGSTOP)
        assert not second.ask("claim", "cell"), "its process is there, and its lease has just been seen"
        wait_for(lambda: second.ask("claim", "cell"))
        first.signal(signal.SIGCONT)
        first.ask("release", "cell")
        assert claims(tmp_path) == ["cell.2"] and second.ask("holder", "cell") is None
        assert first.ask("holder", "cell").endswith(f", pid {second.process.pid}")
        assert not first.ask("claim", "cell")


def test_a_clean_end_and_a_release_free_cells_at_once(tmp_path: Path) -> None:
    with leases(tmp_path, "b") as other:
        with leases(tmp_path, "a") as first:
            assert first.claim("x") and first.claim("y") and first.claim("y")
            assert not other.claim("x") and other.claimed().keys() == {"x", "y"}
            first.release("y")
            first.release("y")
            first.release("never claimed")
            assert other.claim("y") and not first.claim("y")
        assert other.claim("x") and other.claimed() == {}


def test_clocks_do_not_matter(tmp_path: Path) -> None:
    """A lease is alive while it changes, to whatever time; for how long one stands still is told by no clock."""
    with leases(tmp_path, "a") as live, leases(tmp_path, "b") as observer:
        assert live.claim("cell")
        clock = random.Random(0)
        until = observer._touches + 2 * TOUCHES
        while observer._touches < until:
            when = clock.randrange(2**32)
            os.utime(live.lease, (when, when))
            assert observer.holder("cell") == str(RunIdentity.here("a"))
            time.sleep(0.01)


def test_storage_that_stands_still_makes_no_run_look_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Path] = []

    def no_answer(path: Path) -> None:
        tried.append(path)
        raise OSError(errno.EIO, "Input/output error")

    with leases(tmp_path, "a", QUICK) as first, leases(tmp_path, "b", QUICK) as observer:
        assert first.claim("cell")
        monkeypatch.setattr(os, "utime", no_answer)
        assert not observer.claim("cell")
        wait_for(lambda: tried.count(observer.lease) > 3 * TOUCHES)
        assert not observer.claim("cell")


@pytest.mark.parametrize("changed", [{"boot": "another"}, {"namespace": "pid:[1]"}])
def test_a_process_elsewhere_is_judged_by_its_lease(changed: dict[str, str], tmp_path: Path) -> None:
    with runs(tmp_path, "a") as (first,), leases(tmp_path, "b") as other:
        assert first.ask("claim", "cell")
        lease = tmp_path / ".run" / "a" / "lease"
        lease.write_text(json.dumps(json.loads(lease.read_text()) | changed))
        first.kill()
        assert not other.claim("cell"), "that pid is none of this machine's"
        wait_for(lambda: other.claim("cell"))


def test_a_pid_that_another_process_has_now_is_told_by_its_start(tmp_path: Path) -> None:
    me = RunIdentity.here("a")
    assert not me.ended()
    assert RunIdentity(**vars(me) | {"start": 1}).ended()
    assert not RunIdentity(**vars(me) | {"start": 1, "boot": None}).ended(), "not known"


def test_a_zombie_has_ended() -> None:
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        os.write(writer, json.dumps(vars(RunIdentity.here("a"))).encode())
        os._exit(0)
    owner = RunIdentity(**json.loads(os.read(reader, 10_000)))
    os.close(reader)
    os.close(writer)
    assert owner.pid == pid
    wait_for(owner.ended)
    os.waitpid(pid, 0)
    assert owner.ended()


def test_a_run_whose_folder_was_removed_has_nothing(tmp_path: Path) -> None:
    with leases(tmp_path, "a") as first, leases(tmp_path, "b") as other:
        assert first.claim("cell")
        first.lease.unlink()
        assert other.claim("cell")
        first.release("cell")
        assert claims(tmp_path) == ["cell.2"]


def test_the_folder_of_another_users_run_may_be_closed_to_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: str | Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with leases(tmp_path, "a") as first, leases(tmp_path, "b") as other:
        assert first.claim("cell")
        monkeypatch.setattr(os, "stat", denied)
        assert other.holder("cell") == str(RunIdentity.here("a")) and not other.claim("cell")
        monkeypatch.undo()


def test_leftovers_of_a_killed_run_are_removed_by_the_next(tmp_path: Path) -> None:
    with runs(tmp_path, "a", "c") as (killed, live):
        assert killed.ask("claim all", "x", "y") and live.ask("claim", "z")
        killed.kill()
        (tmp_path / ".run" / "claims" / ".nfs0000000001").touch()  # what NFS makes of a file that is open and removed
        with leases(tmp_path, "b"):
            assert claims(tmp_path) == [".nfs0000000001", "z.1"]
            assert sorted(one.parent.name for one in (tmp_path / ".run").glob("*/lease")) == ["b", "c"]


def test_a_claim_of_nobody_known_is_taken_over_when_it_does_not_change(tmp_path: Path) -> None:
    with leases(tmp_path, "a", QUICK) as mine:
        for number, content in enumerate((b"", b"\xff\x00", b"[]", b'{"run": "../.."}'), 1):
            (mine.folder / f"cell.{number}").write_bytes(content)
        assert not mine.claim("cell") and "unknown" in str(mine.holder("cell"))
        wait_for(lambda: mine.claim("cell"))
        assert claims(tmp_path) == ["cell.5"]


def test_names_as_long_as_those_of_records(tmp_path: Path) -> None:
    cell = "c" * (255 - len(".json"))
    with leases(tmp_path, "a") as mine, leases(tmp_path, "b") as other:
        assert mine.claim(cell) and not other.claim(cell)


class Late(Leases):
    """Looks into the folder once, before another run does something that it therefore does not see."""

    def __init__(self, results: Path, name: str, meanwhile: Callable[[], object]):
        super().__init__(results, run_folder(results, name), CLOCKS)
        self.meanwhile: Callable[[], object] | None = meanwhile

    def tidy(self) -> None:
        """Is not what is tested here."""

    def _listing(self) -> dict[str, dict[int, os.DirEntry[str]]]:
        seen = super()._listing()
        if self.meanwhile is not None:
            now, self.meanwhile = self.meanwhile, None
            now()
        return seen


def test_who_saw_no_claim_before_there_was_a_second_one_withdraws(tmp_path: Path) -> None:
    """The number it takes is free again, as the first claim was of a run that is gone; but not the cell."""
    with runs(tmp_path, "gone") as (gone,), leases(tmp_path, "b") as other:

        def taken_over() -> None:
            assert gone.ask("claim", "cell")
            gone.kill()
            assert other.claim("cell")

        with Late(tmp_path, "late", taken_over) as late:
            assert not late.claim("cell")
            assert claims(tmp_path) == ["cell.2"]


def test_who_saw_a_claim_of_a_run_now_gone_withdraws_from_one_made_anew(tmp_path: Path) -> None:
    with runs(tmp_path, "gone") as (gone,), leases(tmp_path, "b") as other:
        assert gone.ask("claim", "cell")
        gone.kill()

        def taken_over_and_again() -> None:
            assert other.claim("cell")
            other.release("cell")
            assert other.claim("cell")
            assert claims(tmp_path) == ["cell.1"]

        with Late(tmp_path, "late", taken_over_and_again) as late:
            assert not late.claim("cell")
            assert claims(tmp_path) == ["cell.1"]


def test_a_full_disk_leaves_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, name: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with leases(tmp_path, "a") as mine, leases(tmp_path, "b") as other:
        monkeypatch.setattr(os, "link", full)
        with pytest.raises(OSError, match="No space left"):
            mine.claim("cell")
        monkeypatch.undo()
        assert other.claim("cell") and not mine.claim("cell")


def test_a_link_whose_answer_was_lost_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS asks again, and is told that the name exists."""
    link = os.link

    def asked_twice(source: Path, name: Path) -> None:
        for _ in range(2):
            link(source, name)

    monkeypatch.setattr(os, "link", asked_twice)
    assert files.write_once(tmp_path / "record", "mine") and not files.write_once(tmp_path / "record", "other")
    assert (tmp_path / "record").read_text() == "mine"
    with leases(tmp_path, "a") as mine, leases(tmp_path, "b") as other:
        assert mine.claim("cell") and not other.claim("cell")


def test_a_record_is_written_where_what_is_left_of_it_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless that is on another disk."""
    link, sources = os.link, list[Path]()

    def linked(source: Path, name: Path) -> None:
        sources.append(source.parent)
        if disks > 1 and source.parent != name.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(source, name)

    monkeypatch.setattr(os, "link", linked)
    scratch, folder = tmp_path / ".run", tmp_path / "records"
    disks = 1
    assert files.write_once(folder / "a", "1", scratch), "there is no such folder yet"
    scratch.mkdir()
    assert files.write_once(folder / "b", "1", scratch)
    disks = 2
    assert files.write_once(folder / "c", "1", scratch) and not files.write_once(folder / "c", "2", scratch)
    assert sources == [folder, scratch, scratch, folder, scratch, folder]
    assert sorted(os.listdir(folder)) == ["a", "b", "c"] and not os.listdir(scratch)
