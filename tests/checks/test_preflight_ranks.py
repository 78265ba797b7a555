"""Preflight on ranks: gradients of engines beside those of plain PyTorch, and groups that end in the middle."""

from __future__ import annotations

import io
import json
import signal
import sys
from pathlib import Path

import psutil
import pytest
import torch
from rich.console import Console
from runs import STAGES, bench, by_name, call, wait_for
from tables import PROBED

from bench.checks.preflight import groups
from bench.checks.preflight.probes import Probe, probes
from bench.checks.preflight.verdicts import Verdict
from bench.cli.run import RunOptions, Session
from bench.cluster.launchers import DeepSpeed, Group
from bench.cluster.timeouts import Timeouts
from bench.core import files
from bench.matrix import matrix
from bench.matrix.cell import rebuild
from bench.records.record import Environment
from bench.runner import loop
from bench.runner.launch import Launch
from bench.training import WORKER

ACCUMULATED = [{"kind": "attack", "algorithm": "freelb", "depth": 1}]
IN_TEXT = [
    {"kind": "noise", "space": "text", "operation": "insert"},
    {"kind": "attack", "space": "text", "cosine": -1.0},
]


REGULARIZERS = ["none", {"kind": "noise", "sigma": 0.1}, {"kind": "attack", "depth": 1}]


def test_methods_and_regularizers_on_two_ranks_have_the_gradients_of_plain_pytorch(
    write_matrix, shape, halved, refused, ranks, tmp_path: Path
) -> None:
    """Each method under each stage with one of the regularizers; a fault that is found, and what is refused."""
    small = {"micro_batch_size": 2}
    bf16 = {"precision": "bf16", "checkpointing": True, "regularizer": "attack", "method": PROBED[3]}
    pairs = [(m, s, REGULARIZERS[(m + s) % 3]) for m in range(4) for s in range(4)]
    file = write_matrix(
        {"method": [PROBED[0]], "zero": ["zero0"], "regularizer": [REGULARIZERS[0]]},
        include=[
            *({"method": PROBED[m], "zero": STAGES[s], "regularizer": regularizer} for m, s, regularizer in pairs[1:]),
            {"method": PROBED[1], "zero": [halved, refused, "zero3"], **small},
            {"method": PROBED[2], "regularizer": ACCUMULATED, "zero": ["zero1", "zero3"], **small},
            *(
                {"method": PROBED[1], "regularizer": one, "zero": zero}
                for one, zero in zip(IN_TEXT, ("zero2", "zero3"), strict=True)
            ),
            {**bf16, "zero": ["zero0", "zero2", "zero3"]},
        ],
        defaults={"backbone": shape, "task": "toy-foreign-0", "method": "full", "ranks": 2, "batch_size": 8},
    )
    made = probes(matrix.load(str(file)).expand())
    assert len(made) == 16 + 3 + 2 + 2 + 3
    ranks.call(2, "preflight_script:serve", str(tmp_path), [probe.cell.content() for probe in made])
    written = [(tmp_path / "verdicts" / f"{probe.name}.json").read_bytes() for probe in made]
    verdicts = map(Verdict.model_validate_json, written)
    by_zero = [(probe.cell.zero.label, verdict) for probe, verdict in zip(made, verdicts, strict=True)]
    (wrong,) = [verdict for zero, verdict in by_zero if zero == "halved"]
    assert (wrong.finding, wrong.worst) == ("wrong", "edits.0.source.prompt"), wrong
    assert wrong.error == pytest.approx(0.5, rel=1e-3)
    (unsupported,) = [verdict for zero, verdict in by_zero if zero == "refused"]
    assert (unsupported.finding, unsupported.phase) == ("unsupported", "setup"), unsupported
    assert "gradient_predivide_factor != 1.0 is not yet supported" in unsupported.exception
    rest = [verdict for zero, verdict in by_zero if zero not in ("halved", "refused")]
    assert {verdict.finding for verdict in rest} == {"exact", "within rounding"}, rest
    assert all(verdict.error <= verdict.allowed for verdict in rest)
    plain = [  # without FreeLB, whose passes are summed in another order
        verdict.finding
        for probe, (zero, verdict) in zip(made, by_zero, strict=True)
        if zero in ("zero0", "zero1") and "freelb" not in probe.cell.regularizer.label
    ]
    assert len(plain) >= 8 and set(plain) == {"exact"}, plain


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_every_method_regularizer_and_stage_on_two_ranks(write_matrix, shape, halved, refused, tmp_path: Path) -> None:
    """And in the same warm group a fault that is found, a configuration that is refused, bf16 and checkpointing."""
    file = write_matrix(
        {
            "method": PROBED,
            "regularizer": REGULARIZERS,
            "zero": STAGES,
        },
        include=[
            {"method": PROBED[1], "zero": [halved, refused, "zero3"], "micro_batch_size": 2},
            {"method": PROBED[2], "regularizer": ACCUMULATED, "zero": STAGES, "micro_batch_size": 2},
            {"method": PROBED[1], "regularizer": IN_TEXT, "zero": STAGES},
            {"precision": "fp16", "zero": "zero1"},
            {"precision": "bf16", "checkpointing": True, "regularizer": "attack", "method": PROBED[3], "zero": STAGES},
        ],
        defaults={
            "backbone": shape,
            "task": "toy-foreign-0",
            "method": "full",
            "ranks": 2,
            "batch_size": 8,
        },
    )
    done = bench("preflight", file, "--results", tmp_path / "r", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "r" / "preflight" / "matrix.json").read_text())
    assert report["environment"]["versions"]["torch"] == torch.__version__
    assert len(list(tmp_path.glob("r/.run/*/preflight-*"))) == 1, "a refusal costs no new group"
    wrong = [probe for probe in report["probes"] if probe["finding"] == "wrong"]
    unsupported = [probe for probe in report["probes"] if probe["zero"] == "refused"]
    half = [probe for probe in report["probes"] if probe["precision"] == "fp16"]
    assert [(probe["zero"], probe["passes"]) for probe in wrong] == [("halved", "2")]
    assert wrong[0]["worst"] == "edits.0.source.prompt" and wrong[0]["error"] == pytest.approx(0.5, rel=1e-3)
    assert [(probe["finding"], probe["phase"]) for probe in unsupported] == [("unsupported", "setup")]
    assert "gradient_predivide_factor != 1.0 is not yet supported" in unsupported[0]["exception"]
    assert len(half) == 1 and half[0]["finding"] != "wrong", (
        "few CPUs have fp16, and DeepSpeed refuses it on the others"
    )
    rest = [probe for probe in report["probes"] if probe not in wrong + unsupported + half]
    assert len(rest) == 48 + 1 + 4 + 4 * len(ACCUMULATED + IN_TEXT) and {probe["finding"] for probe in rest} == {
        "exact",
        "within rounding",
    }
    at_once = [probe for probe in rest if "freelb" not in probe["regularizer"]]  # sums of passes round differently
    assert {probe["finding"] for probe in at_once if probe["zero"] in ("zero0", "zero1")} == {"exact"}
    assert all(probe["error"] <= probe["allowed"] for probe in rest)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_run_records_what_preflight_refuses_and_runs_the_rest(write_matrix, refused, tmp_path: Path) -> None:
    file, results = write_matrix({"zero": ["zero2", refused], "steps": 2, "evaluate_every": 2}), tmp_path / "r"
    done = bench("run", file, "--results", results, "--preflight")
    assert done.returncode == 1 and "1 exact, 1 unsupported" in done.stdout, done.stdout + done.stderr
    made = {record.labels.zero: record for record in by_name(results).values()}
    assert (made["zero2"].status, made["refused"].status) == ("ok", "unsupported")
    failure = made["refused"].failure
    assert failure is not None and failure.phase == "preflight" and "is not yet supported" in failure.exception
    assert "1 ok, 1 unsupported" in done.stdout
    again = bench("run", file, "--results", results, "--preflight")
    assert again.returncode == 1 and "2 cells, 0 to run" in again.stdout, "a refusal is a record: it is not run again"
    assert by_name(results)[made["refused"].name] == made["refused"]


def of_preflight(results: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    lines = [(process, process.info["cmdline"] or []) for process in found]
    return [
        process
        for process, line in lines
        if groups.WORKER in line and any(str(results) in word for word in line) and any("local_rank" in w for w in line)
    ]


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_rank_that_dies_costs_one_probe(expand, shape, tmp_path: Path) -> None:
    """SIGKILL in the second of three probes. The attack's many steps make a probe last."""
    slow = {"kind": "attack", "steps": 20}
    made = probes(expand({"backbone": shape, "method": PROBED[:3], "regularizer": slow, "zero": "zero0"}))
    found: list[Verdict] = []

    def tell(_: Probe, verdict: Verdict) -> None:
        if not found:
            victims = of_preflight(tmp_path)
            wait_for(lambda: list(tmp_path.glob(f"r/.run/*/*/started/{made[1].name}")))
            for process in victims:
                process.send_signal(signal.SIGKILL)
        found.append(verdict)

    verdicts, _ = groups.run(made, Launch(tmp_path / "r", worker=WORKER), tell)
    assert list(verdicts.values()) == found
    assert [verdict.finding for verdict in found] == ["exact", "unsupported", "exact"], found
    assert found[1].exception == "a process ended without a verdict: ended by SIGKILL"
    assert not of_preflight(tmp_path)


HERE = Environment(commit=None, dirty=None, versions={}, hosts=(), accelerator="", threads=1, launcher="")


@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("import time; time.sleep(60)", "timeout: no verdict in 1 s"),
        ("import os; os.kill(os.getpid(), 9)", "a process ended without a verdict: ended by SIGKILL"),
    ],
    ids=["hangs", "dies"],
)
def test_a_rank_that_hangs_or_dies_costs_one_probe(script, how, monkeypatch, expand, shape, tmp_path: Path) -> None:
    """Ranks as they look to the launcher: the first group ends in the second probe, the next one has no trouble."""
    made = probes(expand({"backbone": shape, "method": PROBED[:3]}))
    left: list[int] = []

    def command(_: DeepSpeed, group: Group) -> list[str]:
        work = group.work
        if (work / "queue.json").is_file() and not (work / "environment.json").is_file():
            names = [rebuild(content).name for content in json.loads((work / "queue.json").read_text())["probes"]]
            left.append(len(names))
            files.write(work / "environment.json", HERE.model_dump_json())
            done, hangs = (names[:1], names[1:2]) if len(left) == 1 else (names, [])
            for name in done:
                files.write(work / "verdicts" / f"{name}.json", Verdict(finding="exact").model_dump_json())
            for name in [*done, *hangs]:
                files.write(work / "started" / name, "")
        return [sys.executable, "-c", script if len(left) == 1 else "pass"]

    monkeypatch.setattr(DeepSpeed, "command", command)
    verdicts, where = groups.run(
        made, Launch(tmp_path / "r", timeouts=Timeouts(probe=1), worker=WORKER), lambda *_: None
    )
    assert [verdicts[probe.name].finding for probe in made] == ["exact", "unsupported", "exact"]
    assert verdicts[made[1].name].exception == how
    assert left == [3, 1] and where == HERE


def test_what_preflight_refuses_is_recorded_and_the_rest_is_launched(monkeypatch, write_matrix, tmp_path: Path) -> None:
    """Ranks as they look to the launcher refuse zero3."""
    launched: list[str] = []

    def command(_: DeepSpeed, group: Group) -> list[str]:
        work = group.work
        if not (work / "environment.json").is_file():
            files.write(work / "environment.json", HERE.model_dump_json())
            for content in json.loads((work / "queue.json").read_text())["probes"]:
                refuses = Verdict(finding="unsupported", phase="setup", exception="ValueError: no")
                verdict = refuses if content["zero"]["name"] == "zero3" else Verdict(finding="exact")
                files.write(work / "started" / rebuild(content).name, "")
                files.write(work / "verdicts" / f"{rebuild(content).name}.json", verdict.model_dump_json())
        return [sys.executable, "-c", "pass"]

    monkeypatch.setattr(DeepSpeed, "command", command)
    monkeypatch.setattr(loop, "run", lambda cells, *_: launched.extend(cell.zero.name for cell in cells))
    file, said = str(write_matrix({"zero": ["zero2", "zero3"]})), io.StringIO()
    options = RunOptions(file, preflight=True)
    session = Session(Console(file=said, soft_wrap=True), options, Launch(tmp_path / "r", worker=WORKER))
    assert session.run() == 1
    (refused,) = by_name(tmp_path / "r").values()
    assert refused.status == "unsupported" and refused.labels.zero == "zero3" and launched == ["zero2"]
    assert refused.failure is not None and refused.failure.phase == "preflight"
    assert "1 exact, 1 unsupported" in said.getvalue() and "1 unsupported, 1 without a record" in said.getvalue()
    launched.clear()
    assert session.run() == 1
    assert launched == ["zero2"] and list(by_name(tmp_path / "r").values()) == [refused], "a refusal is a record"


def test_a_hostfile_with_too_few_slots_is_refused(write_matrix, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=1\n")
    done = call("preflight", write_matrix({"ranks": 2}), "--results", tmp_path / "r", "--hostfile", hosts)
    assert done.returncode == 2 and "expected at least 2" in done.stderr
    assert call("preflight", "no-such-matrix").returncode == 2
