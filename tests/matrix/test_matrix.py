"""Matrices: what they expand to, how cells are named, and what is said when a file is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from matrices import Expand, wrong

from bench.core.settings import InputError
from bench.matrix import matrix
from bench.matrix.cell import rebuild


def test_product_include_and_exclude(expand: Expand) -> None:
    cells = expand(
        {
            "method": ["full", {"kind": "prompt_tuning", "length": 3}],
            "regularizer": ["none", {"kind": "noise", "sigma": 0.1}, {"kind": "noise", "sigma": 0.2}],
            "seed": [0, 1],
        },
        exclude=[
            {"method": "full", "regularizer": {"kind": "noise", "sigma": 0.2}},
            {"regularizer": "none", "seed": 1},
        ],
        include=[
            {
                "backbone": "toy-encoder",
                "task": "toy-natural-1",
                "method": "full",
                "ranks": [2, 4],
            }
        ],
    )
    # 2 x 3 x 2, less the 2 seeds of full with noise 0.2, less seed 1 without a regularizer for both methods
    assert len(cells) == 12 - 2 - 2 + 2
    assert not [c for c in cells if c.method.kind == "full" and c.regularizer.label == "noise sigma=0.2"]
    assert [(c.ranks, c.task.name, c.steps) for c in cells[-2:]] == [
        (2, "toy-natural-1", 6),
        (4, "toy-natural-1", 6),
    ]
    assert [c.seed for c in cells[:8]] == [0, 0, 1, 0, 0, 1, 0, 1], "the last axis of the file varies fastest"


def test_a_recipe_keeps_what_is_not_given(expand: Expand) -> None:
    rates = [1e-3, 1e-2]
    method = {"kind": "late_prompt", "depth": 1}
    cells = expand({"method": [{**method, "recipe": {"learning_rate": rate}} for rate in rates]})
    assert [c.method.recipe.learning_rate for c in cells] == rates
    assert {c.method.recipe.weight_decay for c in cells} == {0.1}
    assert [c.labels().recipe for c in cells] == ["", "learning_rate=0.01"], "only departures are named"


def test_names_are_readable_unique_and_of_the_whole_content(expand: Expand) -> None:
    cells = expand({"seed": [0, 1], "steps": [5, 6], "zero": ["zero0", "zero3"], "precision": ["fp32", "bf16"]})
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(cells) == 16
    assert names[0].startswith("tiny-encoder.toy-foreign-0.8-per-class.full.none.zero0.x1.s0-")
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for name in names)


def test_a_cell_survives_json(expand: Expand) -> None:
    cells = expand(
        {
            "method": ["full", {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}}],
            "regularizer": ["none", {"kind": "attack", "depth": 1}],
            "head": ["answer_words", {"kind": "linear", "pooling": "mean"}],
        }
    )
    for cell in cells:
        again = rebuild(json.loads(json.dumps(cell.content())))
        assert again == cell and again.name == cell.name


def test_a_backbones_name_does_not_depend_on_where_it_lies_but_on_what_it_holds(
    checkpoint: Path, tmp_path: Path, expand: Expand
) -> None:
    moved, changed = tmp_path / "a" / checkpoint.name, tmp_path / "b" / checkpoint.name
    for folder in (moved, changed):
        shutil.copytree(checkpoint, folder)
    weights = changed / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    names = [expand({"backbone": {"path": str(folder)}})[0].name for folder in (checkpoint, moved, changed)]
    assert names[0] == names[1] != names[2]


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        """
default: {task: sst2}
defaults: {step: 3, batch_size: 0}
axes:
  backbone: [roberta-larg, {path: ./nowhere}]
  task: [sst3]
  regime: [{totl: 100}, {total: -1}]
  method: [ful, {kind: late_prompt, dept: 3}, {kind: late_prompt, depth: two}, {kind: peft, config: {peft_type: LORRA}}]
  regularizer: [nois, {kind: noise, sigma: -1}]
  zero: zero4
  seed: [0.5]
"""
    )
    problems = wrong(file)
    expected = [
        ("default:", "did you mean defaults?"),
        ("defaults.step:", "did you mean steps?"),
        ("defaults.batch_size:", "found 0, expected: input should be greater than or equal to 1"),
        ("axes.backbone[0]:", "did you mean roberta-large?"),
        ("axes.backbone[1].path:", "found './nowhere', expected a folder"),
        ("axes.task[0]:", "did you mean sst2?"),
        ("axes.regime[0]:", "expected full, fewglue, {total: n} or {per_class: n}"),
        ("axes.regime[1]:", "found {'total': -1}"),
        ("axes.method[0]:", "did you mean full?"),
        ("axes.method[1].depth:", "missing"),
        ("axes.method[1].dept:", "did you mean depth?"),
        ("axes.method[2].depth:", "found 'two', expected: input should be a valid integer"),
        ("axes.method[3].config.peft_type:", "did you mean LORA?"),
        ("axes.regularizer[0]:", "did you mean noise?"),
        ("axes.regularizer[1].sigma:", "found -1, expected: input should be greater than 0"),
        ("axes.zero:", "did you mean zero3?"),
        ("axes.seed[0]:", "found 0.5, expected: input should be a valid integer"),
    ]
    assert len(problems) == len(expected), problems
    for problem, (path, message) in zip(sorted(problems), sorted(expected), strict=True):
        assert problem.startswith(path) and message in problem, (problem, message)


@pytest.mark.parametrize(
    ("axes", "keys", "expected"),
    [
        (
            {"method": {"kind": "late_prompt", "depth": 30}},
            {},
            "axes.method: depth is 30, but the backbone has 3 layers (0..2)",
        ),
        (
            {"regularizer": {"kind": "noise", "depth": 3}},
            {},
            "axes.regularizer: depth is 3, but the backbone has 3 layers (0..2)",
        ),
        ({"ranks": 32}, {}, "defaults.batch_size: found 8, expected a multiple of ranks 32"),
        ({}, {"exclude": [None]}, "exclude[0]: found nothing in it"),
        (
            {"method": {"kind": "prompt_tuning", "recipe": {"learning_rate": []}}},
            {},
            "axes.method.recipe.learning_rate: found an empty list",
        ),
        ({"method": {"kind": "full", "recipe": {"warmup": 6}}}, {}, "axes.method.recipe.warmup: found 6"),
        (
            {"method": {"kind": "full", "recipe": {"learning_rate": -1}}},
            {},
            "axes.method.recipe.learning_rate: found -1",
        ),
        ({"backbone": {"path": "/", "name": 3}}, {}, "axes.backbone.path: found '/'"),
        ({"ranks": 3}, {}, "defaults.batch_size: found 8, expected a multiple of ranks 3"),
        (
            {"micro_batch_size": 3},
            {},
            "defaults.batch_size: found 8, expected a multiple of ranks 1 x micro_batch_size 3",
        ),
        (
            {},
            {"exclude": [{"method": "prompt_tuning"}]},
            "exclude[0]: found {'method': 'prompt_tuning'}, which matches no cell",
        ),
        ({"method": "idpg"}, {}, "axes.method: idpg trains with the head linear, found answer_words"),
        ({"method": {"kind": "adapter", "drop": 3}}, {}, "axes.method: drop is 3, but the backbone has 3 layers"),
        ({"method": {"kind": "idpg", "generator": "phm", "bottleneck": 8}}, {}, "axes.method: bottleneck is 8"),
        ({"method": "bitfit", "backbone": "llama-3.2-1b"}, {}, "axes.method: bitfit trains biases, and llama-3.2-1b"),
        (
            {"method": {"kind": "peft", "config": {"peft_type": "LORA"}}, "backbone": "albert-base"},
            {},
            "axes.method: peft has no target_modules for LORA on albert",
        ),
        (
            {"method": {"kind": "peft", "config": {"peft_type": "XLORA"}}},
            {},
            "axes.method.config: found {'peft_type': 'XLORA'}, expected: peft_type: XLORA cannot be injected",
        ),
        (
            {"backbone": "t5-base", "head": {"kind": "linear", "pooling": "mean"}},
            {},
            "axes.head: found pooling mean, but t5-base answers in its decoder",
        ),
        ({"seed": []}, {}, "axes.seed: found an empty list, expected at least one value"),
        ({}, {"include": [{"sed": 1}]}, "include[0].sed: unknown field"),
    ],
)
def test_what_does_not_go_together_is_named(axes, keys, expected, write_matrix) -> None:
    problems = wrong(write_matrix(axes, **keys))
    assert any(problem.startswith(expected) for problem in problems), problems


def test_a_backbone_without_lm_head_takes_the_linear_head_only(
    checkpoint: Path, tmp_path: Path, expand: Expand
) -> None:
    folder = tmp_path / "headless"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["RobertaModel"]}))
    with pytest.raises(InputError, match="headless has no LM head: expected linear"):
        expand({"backbone": {"path": str(folder)}})
    assert expand({"backbone": {"path": str(folder)}, "head": "linear"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("axes: {seed: 1, seed: 2}", "'seed' is given twice"),
        ("axes: [1", "YAML"),
        ("- 1", "expected a mapping"),
        ("name: empty", "axes: missing"),
        ("? [a, b]\n: 1", "unhashable"),
        ("axes: !!map x", "YAML"),
        ("axes: {seed: 2020-13-45}", "month must be in 1..12"),
        ("axes: !!int x", "YAML"),
        ("axes: " + "[" * 3000, "YAML"),
        ("axes: {method: {kind: peft, config: {peft_type: LORA, lora_alpha: .nan}}}", "not JSON compliant"),
        ("axes: {method: {kind: peft, config: {peft_type: [LORA]}}}", "axes.method.config"),
        ("axes: {regularizer: {kind: noise, sigma: .inf}}", "expected: input should be a finite number"),
        ("axes: {task: sst2}", "axes.method: missing"),
    ],
)
def test_a_file_that_is_no_matrix_is_named(tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "no.yaml"
    file.write_text(content)
    assert any(expected in problem for problem in wrong(file))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"}}, "reduce_bucket_size: found 'auto'"),
        ({"bf16": True}, "bf16: found True, expected a mapping"),
        ({"zero_optimization": {"stage": 4}}, "zero_optimization.stage: found 4"),
        ([1], "expected a DeepSpeed configuration"),
        ({"optimizer": {"type": "Adam"}}, "optimizer: found {'type': 'Adam'}, expected none"),
        ({"zero_optimization": {"stage": 2, "reduce_bucket_size": "5e8"}}, "reduce_bucket_size: found '5e8'"),
        ({"zero_optimization": {"offload_param": {"device": 3}}}, "offload_param.device: found 3"),
    ],
)
def test_a_ds_config_that_cannot_run_is_named(config: object, expected: str, tmp_path: Path, expand: Expand) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"axes.zero: .*mine.json") as caught:
        expand({"zero": {"path": str(file)}})
    assert expected in str(caught.value)
    file.write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    assert expand({"zero": {"path": str(file)}})[0].zero.stage == 1


def test_exclude_matches_lists_and_leaves_something(expand: Expand) -> None:
    vary = [["sample"], ["init"], ["sample", "init"]]
    cells = expand({"vary": vary}, exclude=[{"vary": ["sample"]}])
    assert [cell.vary for cell in cells] == [("init",), ("sample", "init")]
    with pytest.raises(InputError, match=r"exclude: leaves no cell"):
        expand({"seed": [0]}, exclude=[{"seed": 0}])


def test_a_protocol_with_nothing_to_follow_is_a_fault_not_a_traceback(expand: Expand) -> None:
    for field in ("method", "regularizer"):
        with pytest.raises(InputError, match=rf"axes.{field}: found None, expected one of"):
            expand({"protocol": "lpt", field: None})


def test_an_unset_variable_in_a_path_is_named(expand: Expand) -> None:
    with pytest.raises(InputError, match=r"found '\$NO_SUCH_VARIABLE' \(is the variable set\?\)"):
        expand({"backbone": {"path": "$NO_SUCH_VARIABLE"}})


@pytest.mark.parametrize("file", sorted(Path("launch/matrices").glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_matrices_expand(file: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bert = checkpoint.parent / "bert"
    if not bert.is_dir():
        shutil.copytree(checkpoint, bert)
        config = json.loads((bert / "config.json").read_text())
        (bert / "config.json").write_text(json.dumps({**config, "model_type": "bert", "num_hidden_layers": 6}))
    monkeypatch.setenv("MINILM", str(bert))
    monkeypatch.setenv("ENGLISH", str(checkpoint))
    cells = matrix.load(file.stem).expand()
    assert len({cell.name for cell in cells}) == len(cells) > 0
    assert file.read_text().startswith("# "), "the head comment says what it is for"
