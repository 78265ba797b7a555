"""Preflight finds right gradients right, wrong ones wrong, and survives what DeepSpeed does not."""

from __future__ import annotations

import pytest
import torch
from runs import STAGES
from tables import PROBED

from bench.checks.preflight.check import batches, measure, model, refer
from bench.checks.preflight.faults import known
from bench.checks.preflight.probes import probes
from bench.checks.preflight.report import Report
from bench.checks.preflight.verdicts import EPSILONS, Measured, Verdict, compare
from bench.cli.preflight import record
from bench.matrix.cell import changed
from bench.models.backbones import FAMILIES

EPS = torch.finfo(torch.float32).eps


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


@pytest.mark.parametrize(
    "method", [{"kind": "prompt_tuning"}, pytest.param({"kind": "adapter"}, marks=pytest.mark.full)], ids=str
)
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


# what is made of it


@pytest.fixture
def report(expand, halved) -> Report:
    zeros = ["zero0", halved]
    made = probes(expand({"method": PROBED[:2], "zero": zeros, "ranks": [1, 2]}))
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
    cells = expand({"method": PROBED[:2], "zero": ["zero0", halved], "ranks": [1, 2]})
    records = [record(cell, verdicts[cell.name]) for cell in cells]
    assert [made.status for made in records if made is not None] == ["failed", "failed"]
    failure = next(made.failure for made in records if made is not None)
    assert failure is not None and failure.phase == "preflight"
    assert failure.exception == "wrong gradients: a.weight is off by 0.5, allowed 1e-06"
