"""The command line, as its user meets it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from runs import bench, call
from sample_records import record
from sample_surfaces import measured

from bench.cli.run import RunOptions, Session
from bench.matrix import matrix
from bench.records import retry, store
from bench.runner import launch
from bench.runner.launch import Launch

# One process for all commands that train nothing. None of them may import what trains, or need it to be installed.
WITHOUT = """
import sys

TRAINS = {"torch", "deepspeed", "transformers", "peft", "datasets", "triton"}

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in TRAINS else self.finder.find_spec(name, *rest)

sys.meta_path[:] = map(Without, sys.meta_path)  # as if they were not installed
from bench.cli.main import main
results, figures = sys.argv[1:]
kinds = "backbones", "kernels", "matrices", "methods", "protocols", "regularizers", "tasks", "zero"
for words in [
    ["--help"],
    ["run", "--help"],
    ["expand", "quickstart"],
    ["expand", "built_in", "--json"],
    ["run", "quickstart", "--dry-run", "--results", figures],
    *(["list", kind] for kind in kinds),
    ["board", results],
    ["claims", results],
    ["diff", results, results],
    ["landscape", results, "--out", figures],
]:
    sys.argv = ["bench", *words]
    try:
        main()
    except SystemExit as done:
        assert not done.code, (words, done.code)
    loaded = {"numpy", "scipy", "pandas"} & sys.modules.keys()
    assert not loaded or "--help" not in words, (words, loaded)
assert not TRAINS & sys.modules.keys()
"""


def test_what_trains_nothing_needs_nothing_of_what_trains(tmp_path: Path) -> None:
    """Help comes without the libraries of statistics, too."""
    made = measured("a", 0.6)
    store.write(tmp_path, made)
    command = [sys.executable, "-c", WITHOUT, str(tmp_path), str(tmp_path / "figures")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "80.0" in (tmp_path / "leaderboard.md").read_text()
    assert list((tmp_path / "figures").glob("landscape-*.png")), done.stdout


@pytest.mark.parametrize("what", ["methods", "backbones", "tasks", "regularizers", "kernels", "zero", "matrices"])
def test_list_names_every_member(what: str) -> None:
    done = call("list", what, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) >= 2 and all(all(str(cell) for cell in list(row.values())[:1]) for row in rows)
    shown = call("list", what).stdout
    assert all(next(iter(row.values())) in shown for row in rows)


def test_expand_as_lines_and_as_json(write_matrix) -> None:
    file = write_matrix({"seed": [0, 1, 2]})
    lines = call("expand", file)
    assert lines.returncode == 0 and len(lines.stdout.split()) == 3 and lines.stderr == "3 cells\n"
    cells = json.loads(call("expand", file, "--json").stdout)
    assert [cell["name"] for cell in cells] == lines.stdout.split()
    assert [cell["seed"] for cell in cells] == [0, 1, 2]


def test_bad_input_is_one_line_without_traceback_and_exit_2(write_matrix, tmp_path: Path) -> None:
    cases = [
        (["run", "quickstrt"], "did you mean quickstart?"),
        (["expand", write_matrix({"method": "ful"})], "axes.method: found 'ful', expected one of"),
        (["run", write_matrix(name="ok"), "--hostfile", tmp_path / "none", "--dry-run"], "none: file: No such file"),
        (["run", write_matrix(name="ok"), "--results", tmp_path, "--retry", "broken"], "--retry: found broken"),
    ]
    for arguments, expected in cases:
        done = call(*arguments, cwd=tmp_path)
        assert done.returncode == 2 and expected in done.stderr, (arguments, done.returncode, done.stderr)
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert call("list", "metods").returncode == 2


def test_the_exit_status_of_the_process_is_that_of_the_command(tmp_path: Path) -> None:
    """The process prints one line and nothing else."""
    done = bench("board", tmp_path / "nowhere")
    said = f"bench: {tmp_path}/nowhere/records: no such folder, expected records\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_a_file_that_is_no_record_is_never_taken_for_a_done_cell(write_matrix, tmp_path: Path) -> None:
    file = write_matrix()
    name = call("expand", file).stdout.strip()
    store.folder(tmp_path / "r").mkdir(parents=True)
    broken = store.path(tmp_path / "r", name)
    broken.write_text("{")
    done = call("run", file, "--results", tmp_path / "r")
    assert done.returncode == 1 and "left out: " in done.stdout and "1 without a record" in done.stdout
    call("run", file, "--results", tmp_path / "r", "--retry", "failed", "--dry-run")
    assert broken.exists(), "a dry run takes nothing away"


def test_board_twice_gives_the_same_bytes_and_names_what_it_left_out(tmp_path: Path) -> None:
    for i in range(6):
        store.write(tmp_path, record(f"r{i}", seed=i, test=i / 7))
    (store.folder(tmp_path) / "broken.json").write_text("{")
    contents = []
    for out, ask in (("one", bench), ("two", call)):  # two processes, whose sets have orders of their own
        done = ask("board", tmp_path, "--out", tmp_path / out)
        assert done.returncode == 0 and "left out: " in done.stderr and "broken.json" in done.stderr
        contents.append([(tmp_path / out / name).read_bytes() for name in ("leaderboard.md", "leaderboard.csv")])
    assert contents[0] == contents[1]


def test_dry_prints_the_commands_and_starts_nothing(write_matrix, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("# two hosts\nnode1 slots=2\nnode2 slots=2\n")
    file = write_matrix({"ranks": [1, 4], "seed": [0, 1]})
    done = call("run", file, "--results", tmp_path / "r", "--hostfile", hostfile, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "4 cells, 4 to run" in done.stdout
    assert "--include node1:0 " in done.stdout and "--include node1:0,1@node2:0,1 " in done.stdout
    assert not (tmp_path / "r").exists()


def test_what_stands_for_a_record_is_told_at_the_start_and_set_aside_when_asked(write_matrix, tmp_path: Path) -> None:
    """Also a folder, and a record of a later version, which must not be lost."""
    file, results = write_matrix({"seed": [0, 1]}), tmp_path / "r"
    later, folder = (store.path(results, name) for name in call("expand", file).stdout.split())
    folder.mkdir(parents=True)
    later.write_text('{"schema_version": 99}')
    console = Console(file=io.StringIO(), width=1000)
    options = RunOptions("m", retry=("failed",), dry_run=True)
    session = Session(console, options, Launch(results, worker="none"))
    cells = matrix.load(str(file)).expand()
    session._stage("m", cells)
    said = console.file.getvalue()
    assert "2 cells, 0 to run" in said and said.count("--retry unreadable sets it aside and runs its cell") == 2
    assert "schema_version is 99" in said and f"{folder}: " in said
    assert retry.forget(results, {cell.name for cell in cells}, ["failed"]) == []
    aside = retry.forget(results, {cell.name for cell in cells}, ["unreadable"])
    assert [one.name for one in aside] == [f"{later.stem}.unreadable-1", f"{folder.stem}.unreadable-1"]
    assert aside[0].read_text() == '{"schema_version": 99}' and aside[1].is_dir()
    assert launch.pending(cells, results) == cells
