"""Results on a disk that is full, or that cannot be written. The disk is a small tmpfs, which needs root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from runs import by_name, in_training, started, wait_for, workers
from sample_records import record
from scripted import QUICK

from bench.cli.run import RunOptions, Session
from bench.core.settings import InputError
from bench.records import store
from bench.runner.launch import Launch
from bench.training import worker


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"needs to mount: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(file: Path) -> None:
    """All the room there is."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as filled:
        while filled.write(b"x" * 512):
            pass


def test_a_record_waits_until_there_is_room_for_it(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the rank says so meanwhile."""
    told: list[dict[str, str]] = []

    def tell(**fields: str) -> None:
        told.append(fields)
        if len(told) == 2:
            (disk / "filler").unlink()

    monkeypatch.setattr(worker.pulse, "report", tell)
    fill(disk / "filler")
    worker.write(disk / "results", record("a"), replace(QUICK, room=0.01))
    assert [record.name for record in store.read_all(disk / "results").records] == ["a"]
    where = f"{disk}/results/records/a.json cannot be written (No space left on device): waiting"
    assert told == [{"phase": "write", "trouble": where}] * 2 + [{"trouble": ""}]
    assert [file.name for file in (disk / "results" / "records").iterdir()] == ["a.json"], "nothing unfinished is left"


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_full_disk_makes_a_run_wait_with_what_it_has(
    disk: Path, write_matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of what trains when the disk becomes full is written when there is room, and the rest runs."""
    file, results = write_matrix({"seed": [0, 1], "steps": 100, "evaluate_every": 100}), disk / "results"
    monkeypatch.setenv("BENCH_TIMEOUTS", '{"room": 0.5}')
    with started(file, results) as process:
        wait_for(lambda: in_training(results))
        fill(disk / "filler")
        assert process.stdout is not None
        said = ""
        while "No space left on device): waiting" not in said:
            said = process.stdout.readline()
            assert said, "it ended"
        assert not list((results / "records").glob("*.json")) and len(workers(results)) == 1
        (disk / "filler").unlink()
        output, _ = process.communicate(timeout=200)
    assert process.returncode == 0 and "2 ok" in output, output
    assert {record.status for record in by_name(results).values()} == {"ok"}
    left = {file.name for file in (results / "records").iterdir()}
    assert left == {f"{name}.json" for name in by_name(results)}, "no unfinished file is left"


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_results_that_cannot_be_written_are_told_before_anything_starts(fault, disk: Path, write_matrix) -> None:
    results = disk / "results"
    results.mkdir()
    if fault == "full":
        fill(disk / "filler")
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    why = {"full": "No space left on device", "read-only": "Read-only file system"}[fault]
    with pytest.raises(InputError) as caught:
        Session(Console(quiet=True), RunOptions(str(write_matrix())), Launch(results, worker="none")).run()
    expected = f"{results}: --results: found {why}, expected a folder with room in which files can be written"
    assert str(caught.value) == expected
    assert not list(results.glob(".run/2*")), "no run has begun"
