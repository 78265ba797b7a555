"""Whatever is killed whenever: each cell ends with one valid record, which says what its ranks found."""

from __future__ import annotations

import random
import time
from pathlib import Path

import light_run
import light_worker
import pytest
from chaos import RETRY, SHARES, Chaos, processes, statuses

from bench.matrix.matrix import load
from bench.records import store

KILLS = 25
SEED = 8


def leftovers(results: Path) -> list[str]:
    """What is not a record among the records."""
    return [file.name for file in store.folder(results).iterdir() if file.suffix != ".json"]


@pytest.mark.full
@pytest.mark.timeout(900)
def test_chaos(write_matrix, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # more cells than are done before so many processes are killed
    axes = {"ranks": [1, 2], "method": ["full", "bitfit"], "seed": list(range(12)), "steps": 300, "evaluate_every": 300}
    matrix, hostfile, log = write_matrix(axes), tmp_path / "hosts", tmp_path / "log"
    hostfile.write_text("localhost slots=2\n")
    cells = load(str(matrix)).expand()
    names, variables = {cell.name for cell in cells}, light_run.variables(cells, tmp_path)
    begun = time.monotonic()

    results = tmp_path / "results"
    chaos = Chaos(matrix, hostfile, results, log, variables, random.Random(SEED))
    start = time.monotonic()
    chaos.wreck(KILLS, len(names))
    wrecked, left = time.monotonic() - start, statuses(results)
    assert set(chaos.kills) == set(SHARES), chaos.kills

    clean = chaos.undisturbed()
    told = clean.stdout + clean.stderr
    assert clean.returncode in (0, 1), told
    assert not processes(results), told
    assert store.recorded(results) == names and statuses(results).total() == len(names), told
    after = statuses(results)
    assert after.keys() <= {"ok", "failed", "timeout", "node_lost"}, after

    again = chaos.undisturbed(*RETRY)
    assert again.returncode == 0, again.stdout + again.stderr
    assert not processes(results) and not leftovers(results)
    for one in store.read_all(results).records:
        assert one.quality is not None and one.quality.test == light_worker.score(one.name)
    chaos._keep()
    assert "Traceback" not in log.read_text("utf-8", errors="replace")
    with capsys.disabled():
        print(f"\n{chaos.kills.total()} kills: {dict(chaos.kills)} in {chaos.started} runs, {wrecked:.0f} s")
        print(f"records then: {dict(left)}; after a clean run: {dict(after)}; after --retry: {dict(statuses(results))}")
        print(f"{time.monotonic() - begun:.0f} s in all")
