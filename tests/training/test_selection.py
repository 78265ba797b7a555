"""Scores of a cell, which step they are of, and what of it follows its seed."""

from __future__ import annotations

import pytest
import torch
from matrices import Expand

from bench.core.seeds import VARY
from bench.core.settings import InputError
from bench.data import sources
from bench.data.batches import training_batches
from bench.data.metrics import DIGITS
from bench.data.splits import split
from bench.data.tasks import TASKS, Regime
from bench.matrix.cell import Cell
from bench.records.record import Record
from bench.runner import preconditions
from bench.training.early_stopping import Selection
from bench.training.evaluation import Outcomes
from bench.training.setup import prepare


def steps_of(selection: Selection, scores: list[float]) -> list[int]:
    """The steps whose weights are taken, one evaluation a step, until training ends."""
    taken: list[int] = []
    for step, dev in enumerate(scores, 1):
        if selection.takes(step, dev):
            taken.append(step)
        if selection.over:
            break
    return taken


def test_the_first_of_the_best_is_selected_and_patience_ends_training() -> None:
    scores = [0.5, 0.7, 0.7, 0.6, 0.8, 0.1]
    whole, one, two = Selection(True, None), Selection(True, 1), Selection(True, 2)
    assert steps_of(whole, scores) == [1, 2, 5] and (whole.step, whole.dev, whole.last) == (5, 0.8, 6)
    assert steps_of(one, scores) == [1, 2] and (one.step, one.dev, one.last, one.over) == (2, 0.7, 3, True)
    assert steps_of(two, scores) == [1, 2] and two.last == 4
    last = Selection(False, None)
    assert steps_of(last, scores) == [] and (last.step, last.dev, last.over) == (6, 0.1, False)


def test_a_score_of_zero_is_a_first_score() -> None:
    selection = Selection(True, 1)
    assert selection.takes(3, 0.0) and selection.step == 3 and not selection.takes(6, 0.0) and selection.over


def test_what_runs_for_certain_is_what_no_score_can_end() -> None:
    assert [Selection(True, patience).certain(20, 3) for patience in (None, 1, 2, 9)] == [20, 6, 9, 20]
    assert steps_of(selection := Selection(True, 2), [1.0] * 20) == [1]
    assert 3 * selection.last == selection.certain(20, 3)


def test_outcomes_by_metric_and_part() -> None:
    found = Outcomes([0, 1, 1, 0, 1], [0, 1, 0, 1, 35])
    assert found.bits == "11000" and found.digits == "0101z"
    pairs = Outcomes([0, 1, 1, 0, 1, 1], [0, 1, 0, 0, 0, 1])
    scores = pairs.scores(("accuracy", "f1"), {"matched": 3, "mismatched": 3})
    assert scores == pytest.approx(
        {"accuracy matched": 2 / 3, "f1 matched": 2 / 3, "accuracy mismatched": 2 / 3, "f1 mismatched": 2 / 3}
    )
    assert pairs.constant(("accuracy",), {"test": 6}) == pytest.approx(4 / 6)
    assert pairs.constant(("accuracy", "f1"), {"test": 6}) == pytest.approx((4 / 6 + 0.8) / 2)
    mostly_no = Outcomes([0, 0, 0, 1], [0, 0, 0, 0])
    assert mostly_no.constant(("f1",), {"test": 4}) == pytest.approx(0.4), "always yes: 2p / (1 + p)"


def test_a_class_is_one_character() -> None:
    many = tuple(map(str, range(len(DIGITS) + 1)))
    with pytest.raises(ValueError, match="labels: found 37, expected 36 at most"):
        type(TASKS["sst2"]).model_validate(
            {**TASKS["sst2"].model_dump(), "name": "many", "labels": many, "words": many}
        )


# what follows the seed


def drawn(cell: Cell) -> tuple[list[int], torch.Tensor, list[list[int]]]:
    """The examples, the initial prompt, and the order of a cell."""
    tuned, encodings = prepare(cell)
    lengths = [len(example.ids) for example in encodings.train]
    order = list(training_batches(lengths, cell.batch_size, cell.steps, cell.seed_of("order")))
    (prompt,) = tuned.trainable().values()
    return encodings.splits.chosen[0], prompt.detach(), order


@pytest.mark.parametrize("vary", [*[[which] for which in VARY], ["order", "init"], []], ids=str)
def test_only_what_is_named_follows_the_seed(vary: list[str], expand: Expand) -> None:
    method = {"kind": "prompt_tuning", "length": 3}
    (zero, one, same) = expand({"method": [method], "seed": [0, 1], "vary": [vary]}, include=[{"method": [method]}])
    (a, prompt, order), (b, other_prompt, other_order) = drawn(zero), drawn(one)
    assert (a != b) == ("sample" in vary)
    assert torch.equal(prompt, other_prompt) == ("init" not in vary)
    # another sample has other lengths, by which batches are grouped
    assert "sample" in vary or (order != other_order) == ("order" in vary)
    assert drawn(same)[0] == a and torch.equal(drawn(same)[1], prompt), "seed 0 is the same whatever varies"


def test_vary_is_one_value_in_one_order(expand: Expand) -> None:
    cells = expand({"vary": [["order", "sample"], ["sample", "order"], "init", ["sample", "init", "order"]]})
    assert [cell.vary for cell in cells] == [("sample", "order"), ("init",), VARY]
    assert cells[2].name == expand()[0].name
    with pytest.raises(InputError, match=r"axes.vary: found .*seed.*, expected: input should be 'sample', 'init' or"):
        expand({"vary": ["seed"]})


# what goes together


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({"patience": 2, "select": "last"}, "axes.patience: found 2 with select last: expected none"),
        ({"patience": 0}, "axes.patience: found 0, expected: input should be greater than or equal to 1"),
        ({"epochs": 0}, "axes.epochs: found 0, expected: input should be greater than or equal to 1"),
        (
            {"backbone": "bert-base", "weights": "random", "task": "random-tokens", "regime": "full", "epochs": 2},
            "axes.epochs: found 2, but random-tokens makes the examples that the steps need: expected steps",
        ),
        (
            {"backbone": "bert-base", "weights": "random", "task": "random-tokens", "regime": "full", "patience": 2},
            "axes.patience: found 2 with weights random, which are not evaluated",
        ),
    ],
)
def test_what_does_not_go_together_is_named(axes: dict, expected: str, expand: Expand) -> None:
    with pytest.raises(InputError) as caught:
        expand(axes)
    assert expected in str(caught.value)


def test_epochs_give_the_steps_that_they_need(expand: Expand) -> None:
    (cell,) = expand({"epochs": 3})
    assert [cell.resolved(examples).steps for examples in (1, 8, 9, 16)] == [3, 3, 6, 6]
    assert cell.resolved(9).epochs is None and cell.steps == 6
    (plain,) = expand()
    assert plain.resolved(9) == plain
    (by_epoch,) = expand({"epochs": [3], "batch_size": [8], "evaluate_every": ["epoch"]})
    assert [by_epoch.resolved(examples).evaluate_every for examples in (8, 9)] == [1, 2]


def test_data_is_read_once_a_task_and_split_once_a_sample(expand: Expand, monkeypatch: pytest.MonkeyPatch) -> None:
    """More tasks than are kept, in an order that comes back to each."""
    tasks = [{"name": "toy-foreign-0", "words": [f"a{i}", f"b{i}"]} for i in range(10)]
    cells = expand({"seed": [0, 1], "vary": [["sample"], ["init"]], "task": tasks})
    reads, splits = [], []
    read = sources.read
    monkeypatch.setattr(sources, "read", lambda *given: reads.append(given[0].words) or read(*given))
    monkeypatch.setattr(
        preconditions, "split", lambda *given: splits.append((given[0].words, given[2])) or split(*given)
    )
    made = preconditions.check_data(cells)
    assert len(made) == len({card.sample for card in made}) * 10 == 20, "the words do not matter to a sample"
    assert len(cells) == 40 and len(reads) == len(set(reads)) == 10
    assert len(splits) == len(set(splits)) == 20, "for init alone the sample is that of seed 0"


# the whole


def test_a_run_stops_early_counts_epochs_and_varies_what_it_is_told(write_matrix, ranks) -> None:
    prompt = {"kind": "prompt_tuning", "length": 3, "recipe": {"learning_rate": 0.1}}
    still = {"kind": "full", "recipe": {"learning_rate": 1e-12}}
    metrics = ["accuracy", "macro_f1"]
    file = write_matrix(
        {"method": [prompt], "ranks": 2, "seed": [0, 1], "vary": [["sample"], ["init"], ["order"], []]},
        include=[
            {
                "method": [still],
                "ranks": 2,
                "patience": 1,
                "steps": 30,
                "evaluate_every": 2,
                "zero": ["zero2", "zero3"],
                "task": {"name": "toy-foreign-0", "metrics": metrics},
            },
            {"method": [prompt], "ranks": 2, "regime": {"per_class": 10}, "epochs": 2},
            {"method": [prompt], "ranks": 2, "regime": {"per_class": 10}, "steps": 6},
        ],
    )
    made = list(ranks.serve(file).values())
    assert {record.status for record in made} == {"ok"}
    assert len(made) == 12

    stopped = [record for record in made if record.cell["patience"]]
    assert len(stopped) == 2
    for record in stopped:
        quality, cost = record.quality, record.cost
        assert [point.step for point in quality.curve] == [2, 4]
        assert (quality.selected_step, quality.stopped_step, cost.steps) == (2, 4, 30)
        assert cost.measured_steps < 4 and sorted({row.phase for row in record.memory}) == [
            "evaluate",
            "setup",
            "train",
        ]
        assert quality.metric == "accuracy and macro_f1" and list(quality.scores) == metrics
        assert quality.test == sum(quality.scores.values()) / 2
        test = split(TASKS["toy-foreign-0"], Regime(per_class=8), 0).test
        assert len(quality.predicted) == len(quality.outcomes) == len(test) == quality.examples["test"]
        right = [str(example.label) == digit for example, digit in zip(test, quality.predicted, strict=True)]
        assert quality.outcomes == "".join("01"[one] for one in right)
        assert quality.scores["accuracy"] == sum(right) / len(right) and quality.origin
        counts = [sum(example.label == label for example in test) for label in (0, 1)]
        most = max(counts) / len(test)
        assert quality.constant == pytest.approx((most + most / (1 + most)) / 2), "macro-F1: of 2p / (1 + p), 0"

    ten = [record for record in made if record.quality.examples["train"] == 20]
    given, counted = sorted(ten, key=lambda record: record.cell["epochs"] or 0)
    assert (counted.cell["epochs"], counted.cell["steps"], counted.cost.steps) == (2, 6, 6)
    assert counted.quality.curve == given.quality.curve and counted.quality.stopped_step is None

    varied: dict[str, list[Record]] = {}
    for record in made:
        if record.quality.examples["train"] == 16 and not record.cell["patience"]:
            varied.setdefault("".join(record.cell["vary"]), []).append(record)
    curves = {vary: [record.quality.curve for record in pair] for vary, pair in varied.items()}
    samples = {vary: len({record.quality.sample for record in pair}) for vary, pair in varied.items()}
    assert samples == {"": 1, "sample": 2, "init": 1, "order": 1}
    assert {vary: a == b for vary, (a, b) in curves.items()} == {
        "": True,
        "sample": False,
        "init": False,
        "order": False,
    }
