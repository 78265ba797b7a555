"""Protocols: what they fill in and where a cell departs. Hyper-parameters: chosen on dev, reported with other seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished import Finished
from sample_records import record

from bench import board
from bench.core.settings import InputError
from bench.matrix import matrix
from bench.matrix.cell import Cell, rebuild
from bench.matrix.protocols import PROTOCOLS, facts
from bench.matrix.protocols.base import OUTSIDE, place

Write = Callable[..., Path]
NOISE = "a regularizer that it does not have"
TABLE_V2 = [  # THUDM/P-tuning-v2's README and scripts: task, model, batch, rate, length, epochs, projection
    ("boolq", "bert-large-cased", 32, 5e-3, 40, 100, False),
    ("wic", "bert-large-cased", 16, 1e-4, 20, 80, True),
    ("rte", "roberta-large", 32, 5e-3, 128, 100, False),
    ("wsc", "roberta-large", 16, 1e-2, 8, 10, False),
]


def cells_of(tmp_path: Path, content: str) -> list[Cell]:
    file = tmp_path / "protocol.yaml"
    file.write_text(content)
    return matrix.load(str(file)).expand()


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_value_has_a_source_and_is_a_field_of_a_cell(protocol: Any) -> None:
    assert protocol.source and protocol.differs
    for rule in protocol.rules:
        assert rule.source and rule.values
        for path in rule.values:
            field, keys = place(path)
            assert field in Cell.model_fields and len(keys) <= 2, path


def test_lpt_fills_in_what_the_matrix_leaves_open(tmp_path: Path) -> None:
    (cell,) = cells_of(
        tmp_path, "axes: {protocol: lpt, backbone: roberta-large, task: sst2, method: late_prompt, seed: 13}"
    )
    assert (cell.steps, cell.batch_size, cell.evaluate_every, cell.max_length) == (1000, 32, 100, 512)
    assert cell.regime.label == "total-100" and cell.lower_dropout
    method = cell.method.model_dump()
    assert {key: method[key] for key in ("depth", "generator", "length", "bottleneck")} == {
        "depth": 12,
        "generator": "naive",
        "length": 5,
        "bottleneck": 128,
    }
    recipe = cell.method.recipe
    assert (recipe.learning_rate, recipe.weight_decay, recipe.warmup, recipe.clip) == (1e-3, 0.1, 0.06, 1.0)
    assert cell.labels().departures == ()
    assert rebuild(cell.content()).labels() == cell.labels(), "as a worker has it"


def test_what_the_matrix_says_stands_and_is_named_as_a_departure(tmp_path: Path) -> None:
    content = """
    defaults: {protocol: lpt, steps: 20, lower_dropout: false}
    axes:
      backbone: roberta-large
      task: trec
      method: [{kind: late_prompt, depth: 6, recipe: {learning_rate: 0.01}}, full]
    """
    late, full = cells_of(tmp_path, content)
    assert (late.steps, late.batch_size, late.method.model_dump()["depth"]) == (20, 32, 6)
    assert late.method.recipe.weight_decay == 0.1, "the rest of the recipe is the protocol's"
    assert set(late.labels().departures) == {
        "steps 20, not 1000",
        "lower_dropout off, not on",
        "method.depth 6, not 12",
        "recipe.learning_rate 0.01, not 0.001",
    }
    assert set(full.labels().departures) == {OUTSIDE, "steps 20, not 1000", "lower_dropout off, not on"}


@pytest.mark.parametrize(("task", "backbone", "batch", "rate", "length", "epochs", "projection"), TABLE_V2)
def test_p_tuning_v2_goes_by_task_and_model(
    tmp_path: Path, task: str, backbone: str, batch: int, rate: float, length: int, epochs: int, projection: bool
) -> None:
    axes = f"{{protocol: ptuning_v2, backbone: {backbone}, task: {task}, method: prefix_tuning}}"
    (cell,) = cells_of(tmp_path, f"axes: {axes}")
    method = cell.method.model_dump()
    assert (cell.batch_size, cell.epochs, cell.head.kind, cell.max_length) == (batch, epochs, "linear", 128)
    assert (method["recipe"]["learning_rate"], method["length"], method["projection"]) == (rate, length, projection)
    assert cell.labels().departures == ()


def test_p_tuning_on_fewglue_trains_the_backbone_with_its_own_rate(tmp_path: Path) -> None:
    (cell,) = cells_of(
        tmp_path, "axes: {protocol: fewglue, backbone: albert-xxlarge, task: wsc, method: p_tuning, seed: 0}"
    )
    method = cell.method.model_dump()
    assert cell.regime.label == "fewglue" and (cell.steps, cell.evaluate_every, cell.patience) == (3500, 20, 10)
    assert method["tune_backbone"] and method["length"] == 2
    assert (method["recipe"]["learning_rate"], method["recipe"]["backbone_learning_rate"]) == (1e-4, 1e-5)


def test_freelb_sets_the_attack_and_leaves_the_rest(tmp_path: Path) -> None:
    attack = "{kind: attack, space: embeddings}"
    cells = cells_of(
        tmp_path,
        f"axes: {{protocol: freelb, backbone: roberta-large, task: [qqp, rte], regularizer: [{attack}], method: full}}",
    )
    qqp, rte = (cell.regularizer.model_dump() for cell in cells)
    assert (qqp["algorithm"], qqp["step_size"], qqp["steps"], qqp["initial"], qqp["radius"]) == (
        "freelb",
        0.2,
        2,
        0.32,
        0.7,
    )
    assert rte["algorithm"] == "freelb" and rte["step_size"] == 0.1, "its settings for RTE are not known"


def test_own_steps_are_not_overruled_by_a_protocols_epochs(tmp_path: Path) -> None:
    axes = "axes: {protocol: ptuning_v2, backbone: roberta-large, task: rte, method: prefix_tuning, steps: 20}"
    (cell,) = cells_of(tmp_path, axes)
    assert (cell.steps, cell.epochs) == (20, None) and cell.labels().departures == ("epochs none, not 100",)
    with pytest.raises(InputError, match=r"axes.epochs: found 2 and axes.steps, expected one of them"):
        cells_of(tmp_path, axes.replace("steps: 20", "steps: 20, epochs: 2"))
    own = "axes: {backbone: roberta-large, task: rte, method: full, "
    (by_epochs,) = cells_of(tmp_path, "defaults: {steps: 5}\n" + own + "epochs: 2}")
    (by_steps,) = cells_of(tmp_path, "defaults: {epochs: 2}\n" + own + "steps: 5}")
    assert (by_epochs.epochs, by_steps.epochs, by_steps.steps) == (2, None, 5), "an axis stands above the defaults"


@pytest.mark.parametrize(
    ("axes", "departs"),
    [
        ("{protocol: ptuning_v2, backbone: roberta-large, task: sst2, method: prefix_tuning}", {OUTSIDE}),
        ("{protocol: freelb, backbone: bert-base, task: qqp, method: full, regularizer: attack}", {OUTSIDE}),
        ("{protocol: freelb, backbone: roberta-large, task: qqp, method: full, regularizer: attack}", set()),
        (
            "{protocol: freelb, backbone: roberta-large, task: qqp, method: full, regularizer: "
            "{kind: attack, space: text}}",
            {OUTSIDE},
        ),
        (
            "{protocol: lpt, backbone: roberta-large, task: qqp, method: late_prompt, head: linear, "
            "regularizer: noise}",
            {"head linear, not answer_words loss vocabulary", NOISE},
        ),
    ],
)
def test_what_a_protocol_does_not_cover_is_told(tmp_path: Path, axes: str, departs: set[str]) -> None:
    (cell,) = cells_of(tmp_path, f"axes: {axes}")
    assert {NOISE if "regularizer" in one else one for one in cell.labels().departures} == departs


def test_an_unknown_protocol_and_what_it_leaves_open_are_faults(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"axes.protocol: found 'ltp', expected one of .*did you mean lpt"):
        cells_of(tmp_path, "axes: {protocol: ltp, backbone: roberta-large, task: sst2, method: full}")
    with pytest.raises(InputError, match=r"axes.method.depth: missing"):
        cells_of(tmp_path, "axes: {protocol: lpt, backbone: bert-base, task: sst2, method: late_prompt}")


def test_facts_are_of_a_method_as_a_matrix_or_a_record_has_it(expand: Callable[..., list[Cell]]) -> None:
    (cell,) = expand()
    made = facts(cell.backbone, cell.task, cell.method.model_dump(), cell.regularizer.model_dump())
    assert made == facts(cell.backbone, cell.task, "full", "none")


# hyper-parameters

RATES = {"kind": "late_prompt", "depth": 1, "recipe": {"learning_rate": [1e-3, 1e-2]}}


def test_lists_are_chosen_for_each_setting_and_not_for_each_zero_configuration(write_matrix: Write) -> None:
    axes = {"method": ["full", RATES], "zero": ["zero0", "zero3"], "precision": ["fp32", "bf16"], "seed": [0, 1, 2]}
    made = matrix.load(str(write_matrix(axes, tuning={"seeds": [100, 101]}))).expansion()
    assert len(made.fixed) == 12, "full: two configurations, two precisions, three seeds"
    assert len(made.decisions) == 2, "one for each precision"
    for decision in made.decisions.values():
        assert list(decision.candidates) == ["learning_rate=0.001", "learning_rate=0.01"]
        for label, candidate in decision.candidates.items():
            assert {(c.zero.name, c.seed) for c in candidate.tune.values()} == {("zero0", 100), ("zero0", 101)}
            assert len(candidate.report) == 6 and {c.seed for c in candidate.report.values()} == {0, 1, 2}
            assert {f"learning_rate={c.method.recipe.learning_rate:g}" for c in candidate.report.values()} == {label}
    assert len(made.runnable_now()) == 12 + 8


def test_a_choice_is_known_by_what_it_is_made_of_not_by_its_place(write_matrix: Write) -> None:
    tuning = {"seeds": [7]}
    one = matrix.load(str(write_matrix({"method": ["full", RATES]}, name="one", tuning=tuning))).expansion()
    other = matrix.load(str(write_matrix({"method": [RATES]}, name="other", tuning=tuning))).expansion()
    assert list(one.decisions) == list(other.decisions)
    prompt = {"kind": "prompt_tuning", "recipe": {"learning_rate": ["1e-3", 1e-2]}}
    third = matrix.load(str(write_matrix({"method": [prompt]}, name="third", tuning=tuning))).expansion()
    assert set(one.decisions).isdisjoint(third.decisions)
    (decision,) = third.decisions.values()
    assert list(decision.candidates) == ["learning_rate=0.001", "learning_rate=0.01"], (
        "also of what YAML takes for a text"
    )


def test_dev_decides_and_failures_are_out(write_matrix: Write) -> None:
    made = matrix.load(str(write_matrix({"method": RATES, "seed": 0}, tuning={"seeds": [7, 8]}))).expansion()
    (decision,) = made.decisions.values()
    slow, fast = (list(one.tune) for one in decision.candidates.values())
    dev: dict[str, float | None] = {slow[0]: 0.7, slow[1]: 0.7, fast[0]: 0.9, fast[1]: 0.8}
    (cell,) = made.selected(dev)[0]
    assert cell.method.recipe.learning_rate == 0.01
    (cell,) = made.selected(dev | {fast[0]: None})[0]
    assert cell.method.recipe.learning_rate == 0.001, "one that failed with a seed is not chosen"
    assert made.selected(dict.fromkeys(dev)) == ([], [decision.title])
    with pytest.raises(KeyError):
        made.selected({})


@pytest.mark.parametrize(
    ("keys", "seed", "expected"),
    [
        ({}, 0, "axes.method.recipe.learning_rate: found a list to choose from, expected `tuning: {seeds"),
        ({"tuning": {"seeds": [7, 7]}}, 0, "tuning.seeds: found [7, 7], expected: seeds that all differ"),
        ({"tuning": {"seeds": [True]}}, 0, "tuning.seeds[0]: found True"),
        ({"tuning": {"seeds": [0, 1]}}, 0, "axes.seed: found 0, which is a tuning seed"),
        ({"tuning": {"seeds": []}}, 0, "tuning.seeds: found"),
        ({"tuning": {"seed": [1]}}, 0, "tuning.seed: unknown key"),
    ],
)
def test_lists_need_seeds_of_their_own(write_matrix: Write, keys: dict[str, Any], seed: int, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        matrix.load(str(write_matrix({"method": RATES, "seed": seed}, **keys))).expand()
    assert expected in str(raised.value)


def test_a_run_chooses_on_dev_and_reports_with_another_seed(finished: Finished) -> None:
    """Two candidates on two seeds, one report, beside two other cells; the next run finds everything done."""
    assert "6 cells, 6 to run, then 1 to choose on dev" in finished.done.stdout
    made = [one for one in finished.made.values() if one.cell["tuning"]]
    tune = [one for one in made if one.cell["tuning"]["role"] == "tune"]
    (report,) = [one for one in made if one.cell["tuning"]["role"] == "report"]
    assert len(tune) == 4 and {one.status for one in made} == {"ok"}
    dev = {
        label: sum(one.quality.dev for one in tune if one.quality and one.cell["tuning"]["candidate"] == label)
        for label in ("learning_rate=1e-06", "learning_rate=0.05")
    }
    assert report.cell["tuning"]["candidate"] == max(sorted(dev), key=dev.__getitem__) and report.cell["seed"] == 0
    assert report.quality is not None
    card = json.loads((finished.results / "cards" / f"{report.quality.sample}.json").read_text())
    assert card["seed"] == 0 and len(card["train"]) == len(card["dev"]) == 16 and card["data"] == report.quality.data
    assert card["classes"] == {"0": [8, 8, 242], "1": [8, 8, 258]}
    assert "6 cells, 0 to run" in finished.again.stdout and "1 cells, 0 to run" in finished.again.stdout


def test_boards_show_the_choice_and_never_make_it_on_test() -> None:
    """The candidate with the worse test score has the better dev score, and is the chosen one."""

    def of(role: str, candidate: str, seed: int, dev: float, test: float) -> Any:
        made = record(f"{role}-{candidate}-{seed}", seed=seed, test=test)
        assert made.quality is not None
        cell = {**made.cell, "tuning": {"role": role, "setting": "s", "candidate": candidate, "seeds": [100, 101]}}
        return made.model_copy(update={"cell": cell, "quality": made.quality.model_copy(update={"dev": dev})})

    tune = [of("tune", "learning_rate=1", seed, 0.8, 0.2) for seed in (100, 101)]
    tune += [of("tune", "learning_rate=2", seed, 0.7, 0.9) for seed in (100, 101)]
    text = board.markdown([*tune, of("report", "learning_rate=1", 0, 0.8, 0.25)])
    main, _, choices = text.partition("## Hyper-parameters chosen on dev")
    assert "chosen: learning_rate=1" in main and "25.0" in main and "90.0" not in main, "tuning cells are no results"
    rows = [line for line in choices.splitlines() if "learning_rate" in line]
    assert [line.split("|")[-2].strip() for line in rows] == ["yes", ""]
    wrong = board.markdown([*tune, of("report", "learning_rate=2", 0, 0.7, 0.9)])
    assert "reported, but not the best" in wrong
