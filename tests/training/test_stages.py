"""Real ranks under every ZeRO stage give the same: losses and answers of cells, and what an engine saves and loads.

The same cells on 1 and 2 ranks under ZeRO 0 to 3 are a product. The default tier takes some of it, so that each stage,
number of ranks, method and regularizer is compared; the full tier takes all of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from runs import STAGES
from tables import METHOD_TABLE, TWO_RATES
from tiny_models import tiny

from bench.models import toy
from bench.models.stack.families import build
from bench.records.record import Record

FULL = {"kind": "full", "recipe": {"learning_rate": 1e-3}}
LATE = {"kind": "late_prompt", "depth": 1, "bottleneck": 8}
LORA = {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}}
PROMPT = {"kind": "prompt_tuning", "length": 3}
# what is trained, and on which (stage, ranks) the default tier compares it with zero0 on one rank
COMPARED: list[tuple[dict[str, Any], Any, list[tuple[int, int]]]] = [
    (FULL, "none", [(3, 2)]),
    (FULL, {"kind": "attack", "depth": 1}, [(2, 2)]),
    (LATE, {"kind": "noise", "sigma": 0.1}, [(1, 2), (3, 1)]),
    (LORA, "none", [(0, 2)]),
    (PROMPT, {"kind": "attack", "algorithm": "freelb"}, [(2, 1)]),  # several passes of each accumulated one
    (PROMPT, {"kind": "attack", "space": "text", "cosine": -1.0}, [(1, 1)]),  # over two epochs
]
ALL = [(stage, ranks) for stage in range(4) for ranks in (1, 2)]


def test_the_default_tier_compares_each_stage_on_each_number_of_ranks() -> None:
    assert {at for *_, compared in COMPARED for at in compared} == {*ALL} - {(0, 1)}


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.full)], ids=["some", "all"])
def test_ranks_and_stages_give_the_same_losses(whole: bool, write_matrix, ranks) -> None:
    """Losses within 1e-4, and the same examples."""
    small = {"steps": 4, "evaluate_every": 2, "micro_batch_size": 4}  # one rank accumulates two passes, two do not
    include = [
        {"method": method, "regularizer": regularizer, "zero": f"zero{stage}", "ranks": size, **small}
        for method, regularizer, some in COMPARED
        for stage, size in (ALL if whole else [(0, 1), *some])
    ]
    in_bf16 = {"method": FULL, "regularizer": "attack", "precision": "bf16", "ranks": 2, "steps": 4}
    include.append({**in_bf16, "zero": STAGES if whole else ["zero3"]})
    (first, *others) = include
    made = ranks.serve(write_matrix({key: [value] for key, value in first.items()}, include=others))
    assert len(made) == (52 if whole else 14)
    assert_measured(made.values())
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in made.values():
        if record.cell["precision"] == "fp32":
            groups[record.labels.method, record.labels.regularizer].append(record)
    assert len(groups) == len(COMPARED)
    for key, same in groups.items():
        curves = [[point.train_loss for point in r.quality.curve] for r in same if r.quality]
        assert len(curves) == len(same) >= 2
        spread = max(max(column) - min(column) for column in zip(*curves, strict=True))
        assert spread < 1e-4, (key, curves)
        assert curves[0][-1] != curves[0][0], "it trained"
        assert len({r.quality.sample for r in same if r.quality}) == 1


def assert_measured(made: Iterable[Record]) -> None:
    """What every finished record has to say about cost and memory."""
    for record in made:
        cost, ranks = record.cost, record.cell["ranks"]
        assert cost.tokens_per_second > cost.samples_per_second > 0
        assert cost.measured_steps == 2, "4 steps, less one of warm-up and the one that memory is followed in"
        assert cost.step_milliseconds.p50 <= cost.step_milliseconds.p90 <= cost.step_milliseconds.p99
        assert {"load", "setup", "train", "evaluate"} <= cost.seconds.keys()
        width = {"fp32": 4, "bf16": 2}[record.cell["precision"]]
        assert cost.checkpoint_bytes == width * cost.trainable_parameters
        assert 0 < cost.trainable_parameters <= cost.total_parameters
        assert cost.flops > 0 and cost.mfu is None and cost.joules is None
        assert sorted((m.rank, m.phase) for m in record.memory) == [
            (rank, phase) for rank in range(ranks) for phase in ("evaluate", "setup", "train")
        ]
        whole = width * cost.total_parameters
        for row in record.memory:
            assert row.peak_allocated_bytes == sum(row.owners.values())
            # ZeRO-3 holds the rank's shard, and what it has gathered of the rest at that moment
            least, most = (whole / ranks, whole / ranks + whole) if record.labels.zero == "zero3" else (whole, whole)
            assert 0.95 * least < row.owners["parameters"] < 1.05 * most + 4096, (record.name, row.owners)


@pytest.mark.full  # DeepSpeed's AdamW is compiled on first use
def test_offloads_give_the_same_losses(write_matrix, ranks) -> None:
    """Under ZeRO-2 and ZeRO-3, whether the optimizer's state lies on the CPU or not; ZeRO++ says what it lacks."""
    from deepspeed.ops.op_builder import CPUAdamBuilder

    CPUAdamBuilder().load()  # compiled here: it takes minutes on a slow machine, in which no rank makes progress
    methods = [{"kind": "full", "recipe": {"learning_rate": 1e-2}}, PROMPT, TWO_RATES]
    zero = ["zero2", "zero2_offload", "zero3", "zero3_offload"]
    file = write_matrix(
        {"method": methods, "zero": zero, "ranks": 2, "steps": 4, "evaluate_every": 2},
        include=[{"zero": "zeropp", "ranks": 2}],
    )
    made = list(ranks.serve(file).values())
    (plus,) = [record for record in made if record.labels.zero == "zeropp"]
    assert plus.status == "unsupported" and "need CUDA kernels" in plus.failure.exception, plus.failure
    assert [record.status for record in made if record is not plus] == ["ok"] * 12
    for method in ("full", "prompt_tuning length=3", "p_tuning length=3 tune_backbone=True"):
        same = [record for record in made if record.labels.method == method and record.quality]
        curves = [[point.train_loss for point in record.quality.curve] for record in same]
        assert len(curves) == 4 and curves[0][-1] != curves[0][0], curves
        assert max(max(column) - min(column) for column in zip(*curves, strict=True)) < 1e-5, (method, curves)


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.full)], ids=["some", "all"])
def test_every_family_trains_from_a_folder_under_zero3(whole: bool, write_matrix, ranks, tmp_path: Path) -> None:
    """From its checkpoint: templates, partitioned loading, and prefixes in its attention."""
    folders = []
    for family in ("albert", "deberta", "opt", "gemma", "t5"):
        model = tiny(family)
        model.save_pretrained(tmp_path / family)
        toy.tokenizer("toy-encoder" if build(model).form == "masked" else "toy-decoder").save_pretrained(
            tmp_path / family
        )
        folders.append({"path": str(tmp_path / family)})
    methods = [{"kind": "full", "recipe": {"learning_rate": 1e-2}}, {"kind": "prefix_tuning", "length": 3}]
    (_, *others) = cells = [
        {"backbone": folder, "method": method, "zero": "zero3", "ranks": 2, "steps": 4}
        for number, folder in enumerate(folders)
        for method in (methods if whole else methods[number % 2 :][:1])
    ]
    file = write_matrix({key: [value] for key, value in cells[0].items()}, include=others)
    made = list(ranks.serve(file).values())
    assert len(made) == (10 if whole else 5)
    assert all(record.status == "ok" for record in made), [record.failure for record in made]
    for record in made:
        losses = [point.train_loss for point in record.quality.curve]
        assert record.labels.method != "full" or losses[-1] < losses[0], (record.name, losses)


def test_a_loss_that_is_not_finite_diverges_at_its_step_on_every_rank(expand, ranks) -> None:
    recipe = {"learning_rate": 1e30, "clip": 1e30}
    (cell,) = expand({"method": [{"kind": "full", "recipe": recipe}], "steps": [4], "ranks": [2]})
    for found in ranks.call(2, "zero_script:diverges", cell.content()):
        assert found["status"] == "diverged" and found["step"] in (2, 3), found


# of engines: see zero_script.py

SOME = [FULL, PROMPT, LORA, TWO_RATES]  # also under the other stages
REST = [method for method in METHOD_TABLE if method not in [{"kind": "full"}, *SOME]]


# sums of products, a network that makes the prompt, and norms of whole matrices: a rank has a part of each
WIDE = [
    {"kind": "compacter", "reduction": 4},
    {"kind": "prefix_tuning", "length": 3, "projection": True, "bottleneck": 8},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2, "use_dora": True}},
]


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_saved_is_what_was_trained(stage: str, checkpoint: Path, ranks, tmp_path: Path) -> None:
    """State, load and save of the trainables on two ranks, and the slice of a landscape."""
    ranks.call(2, "zero_script:check", str(checkpoint), str(tmp_path), stage, SOME, True)


@pytest.mark.parametrize("methods", [WIDE, pytest.param(REST, marks=pytest.mark.full)], ids=["some", "all"])
def test_what_is_saved_of_every_method_is_what_was_trained(methods, checkpoint: Path, ranks, tmp_path: Path) -> None:
    """Under ZeRO-3, where every rank has a part of it."""
    ranks.call(2, "zero_script:check", str(checkpoint), str(tmp_path), "zero3", methods, False)


@pytest.mark.parametrize("stage", STAGES)
def test_steps_at_two_rates_are_those_of_plain_pytorch(stage: str, checkpoint: Path, ranks) -> None:
    ranks.call(2, "zero_script:check_rates", str(checkpoint), stage)


def test_gloo_keeps_nothing_that_is_followed(ranks) -> None:
    ranks.call(2, "zero_script:check_gloo")
