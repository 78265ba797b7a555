"""Preflight finds right gradients right, wrong ones wrong, and survives what DeepSpeed does not."""

from __future__ import annotations

import io
import json
import signal
import sys
from pathlib import Path

import psutil
import pytest
import torch
from matrices import predivided
from rich.console import Console
from runs import STAGES, bench, by_name, wait_for

from bench import files, launch, matrix
from bench.backbones import FAMILIES
from bench.cells import changed, rebuild
from bench.clocks import Clocks
from bench.launch import Launch
from bench.launchers import DeepSpeed, Group
from bench.preflight import groups
from bench.preflight.check import batches, measure, model, refer
from bench.preflight.faults import known
from bench.preflight.probes import Probe, probes
from bench.preflight.report import Report
from bench.preflight.session import record
from bench.preflight.verdicts import EPSILONS, Measured, Verdict, compare
from bench.records import Environment
from bench.session import Session

METHODS = [
    "full",
    {"kind": "prompt_tuning", "length": 3},
    {"kind": "late_prompt", "depth": 1, "bottleneck": 8},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}},
]
ACCUMULATED = [{"kind": "attack", "algorithm": "freelb", "depth": 1}]
IN_TEXT = [
    {"kind": "noise", "space": "text", "operation": "insert"},
    {"kind": "attack", "space": "text", "cosine": -1.0},
]
EPS = torch.finfo(torch.float32).eps


@pytest.fixture
def shape(tmp_path: Path) -> dict[str, str]:
    """A backbone of which nothing but its config is there: preflight reads no weights."""
    folder = tmp_path / "shape"
    folder.mkdir()
    config = {"model_type": "roberta", "num_hidden_layers": 2, "architectures": ["RobertaForMaskedLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    return {"path": str(folder)}


@pytest.fixture
def halved(tmp_path: Path) -> dict[str, str]:
    """A fault of DeepSpeed 0.19.8: all-reduced ZeRO-3 gradients are divided by this factor and, where it is the number
    of ranks, not multiplied again (stage3.py, `__avg_scatter_contiguous_grads`)."""
    return predivided(tmp_path, "halved", reduce_scatter=False)


@pytest.fixture
def refused(tmp_path: Path) -> dict[str, str]:
    """What DeepSpeed says it cannot do."""
    return predivided(tmp_path, "refused", reduce_scatter=True)


# verdicts


def measured(loss: float = 1.0, **gradients: list[float] | None) -> Measured:
    made = {name: None if value is None else torch.tensor(value) for name, value in gradients.items()}
    return Measured(torch.tensor(loss), made)


@pytest.mark.parametrize(
    ("engine", "finding", "worst"),
    [
        (measured(a=[1.0, 2.0], b=[1e-9], c=None), "exact", None),
        (measured(a=[1.0, 2.0], b=[1e-9], c=[0.0]), "exact", None),
        (measured(a=[1.0, 2.0 + EPS * 2], b=[1e-9], c=None), "within rounding", "a"),
        (measured(a=[1.0, 2.0], b=[3e-9], c=None), "within rounding", "b"),  # zero but for rounding
        (measured(a=[1.0, 2.0 + EPS * 32], b=[1e-9], c=None), "wrong", "a"),
        (measured(a=[0.5, 1.0], b=[5e-10], c=None), "wrong", "a"),  # a rank's share is missing
        (measured(a=[1.0, 2.0], b=[0.1], c=None), "wrong", "b"),
        (measured(a=[1.0, 2.0], b=None, c=[0.1]), "wrong", "c"),
        (measured(a=[1.0, float("nan")], b=[1e-9], c=None), "wrong", "a"),
        (measured(1.1, a=[1.0, 2.0], b=[1e-9], c=None), "wrong", "the loss"),
    ],
)
def test_findings(engine: Measured, finding: str, worst: str | None) -> None:
    right = measured(a=[1.0, 2.0], b=[1e-9], c=None)
    verdict = compare(engine, right, right, torch.float32)
    assert verdict.finding == finding, verdict
    assert worst is None or verdict.worst == worst, verdict


def test_the_bound_is_what_plain_pytorch_is_off_by() -> None:
    truth, plain = measured(a=[1.0, 1.0], b=[1.0]), measured(a=[1.001, 1.0], b=[1.0])
    off = 0.001 / 2**0.5
    typical = off / 3**0.5  # of the loss, a and b
    for error, finding in ((0.0042, "within rounding"), (0.0044, "wrong")):
        verdict = compare(measured(a=[1.0 + error, 1.0], b=[1.0]), plain, truth, torch.float32)
        assert verdict.finding == finding
        assert verdict.allowed == pytest.approx(2 * off + 4 * typical + EPSILONS * EPS, rel=1e-3)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_probe_of_every_type_differs_between_ranks_and_precisions_alone(model_type: str, expand, shape) -> None:
    """The reference is a mean over ranks whose gradients are not alike, and float32 is right but for its rounding."""
    (cell,) = expand({"backbone": shape, "ranks": 2, "method": {"kind": "adapter"}})
    backbone = cell.backbone.model_copy(update={"model_type": model_type})
    (probe,) = probes([type(cell).model_construct(**{**dict(cell), "backbone": backbone})])
    tuned, device = model(probe.cell), torch.device("cpu")
    plain, exact = (measure(tuned, probe.cell, device, dtype) for dtype in (torch.float32, torch.float64))
    assert compare(plain, plain, exact, torch.float32).finding == "exact"
    one = [next(batches(probe.cell, rank, device)) for rank in range(2)]
    assert not torch.equal(one[0].ids, one[1].ids)
    single = measure(tuned, type(cell).model_construct(**{**dict(probe.cell), "ranks": 1}), device, torch.float32)
    assert compare(single, plain, exact, torch.float32).finding == "wrong", "it sees a rank that is left out"
    largest = max(g.norm() for g in plain.gradients.values() if g is not None)
    assert all(g is not None and g.norm() > 1e-4 * largest for g in plain.gradients.values()), "none hides at zero"


@pytest.mark.parametrize("method", [{"kind": "prompt_tuning"}, {"kind": "adapter"}], ids=str)
def test_a_lost_rank_and_a_halved_gradient_stand_out_from_bf16_in_many_layers(method: dict, expand) -> None:
    (cell,) = expand({"backbone": "opt-1.3b", "ranks": 8, "method": [method], "precision": "bf16"})
    (probe,) = probes([cell])
    tuned, device = model(probe.cell), torch.device("cpu")
    plain, exact = (measure(tuned, probe.cell, device, dtype) for dtype in (torch.bfloat16, torch.float64))
    less = measure(tuned, changed(probe.cell, ranks=7), device, torch.bfloat16)
    for factor in (0.0, 0.5, 1.0 / 8, 2.0):
        scaled = {key: None if g is None else g * factor for key, g in plain.gradients.items()}
        verdict = compare(Measured(plain.loss, scaled), plain, exact, torch.bfloat16, ranks=8)
        assert verdict.finding == "wrong", (factor, verdict)
    seven = {key: None if g is None else g * (7 / 8) for key, g in less.gradients.items()}
    verdict = compare(Measured(plain.loss, seven), plain, exact, torch.bfloat16, ranks=8)
    assert verdict.finding == "wrong" or verdict.phase == "comparison", verdict


def test_what_draws_random_numbers_of_its_own_is_not_called_right(expand, shape) -> None:
    (cell,) = expand(
        {"backbone": shape, "method": {"kind": "peft", "config": {"peft_type": "LOHA", "module_dropout": 0.5}}}
    )
    (probe,) = probes([cell])
    torch.manual_seed(1)  # or all of its modules may drop out at once, and nothing is left to train
    with pytest.raises(ValueError, match="draws random numbers of its own"):
        refer(model(probe.cell).train(), probe.cell, torch.device("cpu"))


def test_a_cell_runs_although_its_probe_could_not_be_made(expand) -> None:
    (cell,) = expand()
    assert record(cell, Verdict(finding="unsupported", phase="model", exception="ValueError: x")) is None
    assert record(cell, Verdict(finding="unsupported", phase="run", exception="ended by SIGKILL")) is None
    assert record(cell, Verdict(finding="unsupported", phase="setup", exception="ValueError: x")) is not None


def test_cells_that_differ_in_nothing_a_gradient_depends_on_are_one_probe(expand) -> None:
    methods = [{"kind": "full", "recipe": {"learning_rate": rate}} for rate in (1e-3, 1e-4)]
    cells = expand({"method": methods, "seed": [0, 1], "task": ["toy-foreign-0", "toy-natural-1"], "zero": STAGES})
    made = probes(cells)
    assert [probe.cell.zero.label for probe in made] == STAGES
    assert sorted(name for probe in made for name in probe.stands_for) == sorted(cell.name for cell in cells)
    several = {"precision": ["fp32", "bf16"], "checkpointing": [False, True], "ranks": [1, 2]}
    assert len(probes(expand(several))) == 8
    assert len(probes(expand({"micro_batch_size": [1, 2, 4, 8]}))) == 2, "with accumulation, or without"


def test_a_known_fault_is_linked() -> None:
    text = """CheckpointError: Recomputed values for the following tensors have different metadata
recomputed metadata: {'shape': torch.Size([0]), 'dtype': torch.float32}"""
    fault = known(Verdict(finding="unsupported", phase="gradients", exception=text))
    assert fault is not None and fault.link.endswith("/8148")
    assert known(Verdict(finding="unsupported", phase="setup", exception="ValueError: x")) is None


# real processes


REGULARIZERS = ["none", {"kind": "noise", "sigma": 0.1}, {"kind": "attack", "depth": 1}]


def test_methods_and_regularizers_on_two_ranks_have_the_gradients_of_plain_pytorch(
    write_matrix, shape, halved, refused, ranks, tmp_path: Path
) -> None:
    """Each method under each stage with one of the regularizers; a fault that is found, and what is refused."""
    small = {"micro_batch_size": 2}
    bf16 = {"precision": "bf16", "checkpointing": True, "regularizer": "attack", "method": METHODS[3]}
    pairs = [(m, s, REGULARIZERS[(m + s) % 3]) for m in range(4) for s in range(4)]
    file = write_matrix(
        {"method": [METHODS[0]], "zero": ["zero0"], "regularizer": [REGULARIZERS[0]]},
        include=[
            *({"method": METHODS[m], "zero": STAGES[s], "regularizer": regularizer} for m, s, regularizer in pairs[1:]),
            {"method": METHODS[1], "zero": [halved, refused, "zero3"], **small},
            {"method": METHODS[2], "regularizer": ACCUMULATED, "zero": ["zero1", "zero3"], **small},
            *(
                {"method": METHODS[1], "regularizer": one, "zero": zero}
                for one, zero in zip(IN_TEXT, ("zero2", "zero3"), strict=True)
            ),
            {**bf16, "zero": ["zero0", "zero2", "zero3"]},
        ],
        defaults={"backbone": shape, "task": "toy-foreign-0", "method": "full", "ranks": 2, "batch_size": 8},
    )
    made = probes(matrix.load(str(file)).expand())
    assert len(made) == 16 + 3 + 2 + 2 + 3
    ranks.call(2, "preflight_script:serve", str(tmp_path), [probe.cell.content() for probe in made])
    written = {probe: (tmp_path / "verdicts" / f"{probe.name}.json").read_bytes() for probe in made}
    by_zero = [(probe.cell.zero.label, Verdict.model_validate_json(one)) for probe, one in written.items()]
    (wrong,) = [verdict for zero, verdict in by_zero if zero == "halved"]
    assert (wrong.finding, wrong.worst) == ("wrong", "edits.0.source.prompt"), wrong
    assert wrong.error == pytest.approx(0.5, rel=1e-3)
    (unsupported,) = [verdict for zero, verdict in by_zero if zero == "refused"]
    assert (unsupported.finding, unsupported.phase) == ("unsupported", "setup"), unsupported
    assert "gradient_predivide_factor != 1.0 is not yet supported" in unsupported.exception
    rest = [(zero, verdict) for zero, verdict in by_zero if zero not in ("halved", "refused")]
    assert {verdict.finding for _, verdict in rest} == {"exact", "within rounding"}, rest
    assert all(verdict.error <= verdict.allowed for _, verdict in rest)
    plain = [verdict.finding for (_, zero, _), (_, verdict) in zip(pairs, rest, strict=False) if zero in (0, 1)]
    assert plain == ["exact"] * 8, "these stages sum what plain PyTorch sums"


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_every_method_regularizer_and_stage_on_two_ranks(write_matrix, shape, halved, refused, tmp_path: Path) -> None:
    """And in the same warm group a fault that is found, a configuration that is refused, bf16 and checkpointing."""
    file = write_matrix(
        {
            "method": METHODS,
            "regularizer": REGULARIZERS,
            "zero": STAGES,
        },
        include=[
            {"method": METHODS[1], "zero": [halved, refused, "zero3"], "micro_batch_size": 2},
            {"method": METHODS[2], "regularizer": ACCUMULATED, "zero": STAGES, "micro_batch_size": 2},
            {"method": METHODS[1], "regularizer": IN_TEXT, "zero": STAGES},
            {"precision": "fp16", "zero": "zero1"},
            {"precision": "bf16", "checkpointing": True, "regularizer": "attack", "method": METHODS[3], "zero": STAGES},
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
    made = probes(expand({"backbone": shape, "method": METHODS[:3], "regularizer": slow, "zero": "zero0"}))
    found: list[Verdict] = []

    def tell(_: Probe, verdict: Verdict) -> None:
        if not found:
            victims = of_preflight(tmp_path)
            wait_for(lambda: list(tmp_path.glob(f"r/.run/*/*/started/{made[1].name}")))
            for process in victims:
                process.send_signal(signal.SIGKILL)
        found.append(verdict)

    verdicts, _ = groups.run(made, Launch(tmp_path / "r"), tell)
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
    made = probes(expand({"backbone": shape, "method": METHODS[:3]}))
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
    verdicts, where = groups.run(made, Launch(tmp_path / "r", clocks=Clocks(probe=1)), lambda *_: None)
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
    monkeypatch.setattr(launch, "run", lambda cells, *_: launched.extend(cell.zero.name for cell in cells))
    file, said = str(write_matrix({"zero": ["zero2", "zero3"]})), io.StringIO()
    session = Session(Console(file=said, soft_wrap=True), tmp_path / "r")
    assert session.run(file, [], None, dry=False, preflight=True) == 1
    (refused,) = by_name(tmp_path / "r").values()
    assert refused.status == "unsupported" and refused.labels.zero == "zero3" and launched == ["zero2"]
    assert refused.failure is not None and refused.failure.phase == "preflight"
    assert "1 exact, 1 unsupported" in said.getvalue() and "1 unsupported, 1 without a record" in said.getvalue()
    launched.clear()
    assert session.run(file, [], None, dry=False, preflight=True) == 1
    assert launched == ["zero2"] and list(by_name(tmp_path / "r").values()) == [refused], "a refusal is a record"


def test_a_hostfile_with_too_few_slots_is_refused(write_matrix, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=1\n")
    done = bench("preflight", write_matrix({"ranks": 2}), "--results", tmp_path / "r", "--hostfile", hosts)
    assert done.returncode == 2 and "expected at least 2" in done.stderr
    assert bench("preflight", "no-such-matrix").returncode == 2


# what is made of it


@pytest.fixture
def report(expand, halved) -> Report:
    zeros = ["zero0", halved]
    made = probes(expand({"method": METHODS[:2], "zero": zeros, "ranks": [1, 2]}))
    wrong = Verdict(finding="wrong", worst="a.weight", error=0.5, allowed=1e-6)
    right = Verdict(finding="exact", worst="a.weight", error=1e-8, allowed=1e-6)
    verdicts = {p.name: wrong if p.cell.zero.label == "halved" and p.cell.ranks == 2 else right for p in made}
    return Report("matrix", made, verdicts, None)


def test_the_table_has_a_row_for_each_combination_and_a_column_for_each_configuration(report: Report) -> None:
    head, rows = report.table()
    assert head == ["method", "regularizer", "ranks", "zero0", "halved"]
    assert rows[:2] == [["full", "none", "1", "exact", "exact"], ["full", "none", "2", "exact", "wrong"]]
    assert len(rows) == 4
    *lines, counts = report.lines()
    assert counts == "6 exact, 2 wrong" and report.wrong
    assert len(lines) == 2 and lines[0].endswith("wrong gradients: a.weight is off by 0.5, allowed 1e-06")


def test_a_cell_with_wrong_gradients_gets_a_failure_record(report: Report, expand, halved) -> None:
    verdicts = report.of_cells()
    cells = expand({"method": METHODS[:2], "zero": ["zero0", halved], "ranks": [1, 2]})
    records = [record(cell, verdicts[cell.name]) for cell in cells]
    assert [made.status for made in records if made is not None] == ["failed", "failed"]
    failure = next(made.failure for made in records if made is not None)
    assert failure is not None and failure.phase == "preflight"
    assert failure.exception == "wrong gradients: a.weight is off by 0.5, allowed 1e-06"
