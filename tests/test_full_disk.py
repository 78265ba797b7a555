"""Results on a disk that is full, or that cannot be written. The disk is a small tmpfs, which needs root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import bench, by_name, in_training, started, wait_for, workers


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


@pytest.mark.timeout(400)
def test_a_full_disk_makes_a_run_wait_with_what_it_has(disk: Path, write_matrix) -> None:
    """The record of what trains when the disk becomes full is written when there is room, and the rest runs."""
    file, results = write_matrix({"ranks": 2, "seed": [0, 1], "steps": 200}), disk / "results"
    with started(file, results) as process:
        wait_for(lambda: in_training(results))
        fill(disk / "filler")
        assert process.stdout is not None
        said = ""
        while "No space left on device): waiting" not in said:
            said = process.stdout.readline()
            assert said, "it ended"
        assert not list((results / "records").glob("*.json")) and len(workers(results)) == 2
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
    done = bench("run", write_matrix(), "--results", results)
    why = {"full": "No space left on device", "read-only": "Read-only file system"}[fault]
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.splitlines() == [
        f"bench: {results}: --results: found {why}, expected a folder with room in which files can be written"
    ]
