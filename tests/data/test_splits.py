"""Which examples a cell sees, as which tokens, in which batches."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from bench.core.settings import InputError
from bench.data.batches import collate, share, training_batches
from bench.data.splits import sample, split
from bench.data.tasks import TASKS, Regime
from bench.data.tasks.regimes import NAMED
from bench.data.templates import Templater
from bench.models import toy
from bench.models.backbones import BACKBONES

LABELS = [0] * 300 + [1] * 100 + [2] * 40


def draw(regime: Regime, seed: int = 0) -> tuple[list[int], list[int]]:
    return sample(LABELS, range(3), regime, seed, "task films, folder films, train")


def classes(ids: list[int]) -> dict[int, int]:
    return dict(sorted(Counter(LABELS[i] for i in ids).items()))


def test_total_keeps_the_class_ratio_and_takes_dev_from_what_is_left() -> None:
    train, dev = draw(Regime(total=44))
    assert classes(train) == {0: 30, 1: 10, 2: 4}
    assert classes(dev) == {0: 270, 1: 90, 2: 36}, "all that is left, being fewer than 1,000"
    assert not set(train) & set(dev)


def test_per_class_takes_as_many_for_dev() -> None:
    train, dev = draw(Regime(per_class=16))
    assert classes(train) == classes(dev) == {0: 16, 1: 16, 2: 16}
    assert not set(train) & set(dev)


def test_full_keeps_a_tenth_as_dev() -> None:
    train, dev = draw(Regime())
    assert len(dev) == 44 and sorted(train + dev) == list(range(len(LABELS)))


@pytest.mark.parametrize("small", [Regime(per_class=4), Regime(total=44)], ids=lambda regime: regime.label)
def test_samples_nest_and_differ_by_seed(small: Regime) -> None:
    large = Regime(per_class=8) if small.per_class else Regime(total=88)
    assert set(draw(small)[0]) <= set(draw(large)[0])
    assert set(draw(small)[0]) != set(draw(small, seed=1)[0])


def test_the_sample_of_a_seed_is_fixed_for_ever() -> None:
    """A change here is a change of every few-shot result."""
    assert draw(Regime(per_class=2), seed=7) == ([66, 126, 327, 360, 424, 430], [59, 2, 368, 383, 417, 435])


@pytest.mark.parametrize("regime", [Regime(per_class=21), Regime(total=440)], ids=lambda regime: regime.label)
def test_too_small_classes_are_named(regime: Regime) -> None:
    with pytest.raises(
        InputError,
        match=r"^task films, folder films, train: regime .*: label \d: expected \d+ examples for train and at least",
    ):
        draw(regime)


def test_splits_of_the_built_in_tasks_are_apart_and_the_same_twice() -> None:
    for task in (TASKS["toy-foreign-0"], TASKS["toy-natural-3"]):
        one, two = (split(task, Regime(per_class=16), 3) for _ in range(2))
        assert one == two
        assert not {e.texts for e in one.train + one.dev} & {e.texts for e in one.test}


def write(folder: Path, splits: dict[str, list[object]]) -> None:
    folder.mkdir(parents=True)
    for name, rows in splits.items():
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def rows(count: int) -> list[object]:
    return [{"sentence": f"a film {i}", "label": i % 2} for i in range(count)]


def test_full_takes_the_tasks_own_dev_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "sst2", {"train": rows(10), "validation": rows(4), "test": rows(6)})
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    own_dev = TASKS["sst2"].model_copy(
        update={"splits": {"train": ("train",), "dev": ("validation",), "test": ("test",)}}
    )
    splits = split(own_dev, Regime(), 0)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (10, 4, 6)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("{", "line 3: Expecting property name"),
        ({"sentence": "x"}, "line 3: field label is missing, found sentence"),
        ({"text": "x", "label": 0}, "line 3: field sentence is missing, found text, label"),
        ({"sentence": 4, "label": 0}, "line 3: field sentence: found 4, expected a text"),
        ({"sentence": "x", "label": 2}, r"line 3: field label: found 2, expected one of \[0, 1\]"),
    ],
)
def test_bad_rows_are_named_by_file_line_and_field(
    row: object, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "sst2", {"train": [*rows(2), row], "validation": rows(2), "test": rows(2)})
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    with pytest.raises(InputError, match=rf"sst2/train.jsonl: {expected}"):
        split(TASKS["sst2"], Regime(), 0)


def test_fewglue_is_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = "fewglue/rte/ with train.jsonl, dev32.jsonl, validation.jsonl"
    monkeypatch.delenv("BENCH_DATA", raising=False)
    with pytest.raises(InputError, match=f"BENCH_DATA: is not set: task rte expects {wanted}"):
        split(TASKS["rte"], Regime(fewglue=True), 0)
    folder = tmp_path / "fewglue" / "rte"
    pairs = [{"premise": f"p {i}", "hypothesis": "h", "label": "entailment"} for i in range(3)]
    write(folder, {"train": pairs[:1], "dev32": pairs[1:2], "validation": pairs[2:]})
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    splits = split(TASKS["rte"], Regime(fewglue=True), 0)
    assert [one.texts[0] for one in (*splits.train, *splits.dev, *splits.test)] == ["p 0", "p 1", "p 2"]
    assert splits.origin == "folder fewglue/rte" and splits.sample == split(TASKS["rte"], NAMED["fewglue"], 7).sample


def test_batches_are_the_same_on_any_number_of_ranks() -> None:
    lengths = [(7 * i) % 23 + 3 for i in range(40)]
    batches = list(training_batches(lengths, 8, 12, seed=5))
    assert batches == list(training_batches(lengths, 8, 12, seed=5)) and len(batches) == 12
    assert batches != list(training_batches(lengths, 8, 12, seed=6))
    assert Counter(i for batch in batches[:5] for i in batch).most_common(1)[0][1] <= 2
    for batch in batches:
        assert [lengths[i] for i in batch] == sorted(lengths[i] for i in batch)
        for ranks, micro in ((1, 8), (1, 2), (2, 4), (2, 2), (4, 2), (8, 1)):
            shares = [share(batch, rank, ranks, micro) for rank in range(ranks)]
            assert sorted(i for share in shares for part in share for i in part) == sorted(batch)
            assert {len(part) for share in shares for part in share} == {micro}


@pytest.mark.parametrize(("examples", "batch_size"), [(32, 16), (100, 16), (33, 16), (17, 16), (16, 16), (5, 2)])
def test_the_examples_of_a_batch_differ(examples: int, batch_size: int) -> None:
    batches = list(training_batches([i % 7 for i in range(examples)], batch_size, 50, seed=1))
    assert len(batches) == 50 and all(len(set(batch)) == batch_size for batch in batches)
    drawn = Counter(i for batch in batches for i in batch)
    assert len(drawn) == examples and max(drawn.values()) - min(drawn.values()) <= 2


def test_fewer_examples_than_a_batch_holds_repeat_evenly() -> None:
    for batch in training_batches([3, 4, 5], 6, 10, seed=1):
        assert sorted(batch) == [0, 0, 1, 1, 2, 2]


def test_a_train_set_too_small_for_a_dev_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "trec", {"train": rows(6), "test": rows(4)})
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    with pytest.raises(InputError, match="task trec, folder trec, train: regime full: found 6 examples, too few"):
        split(TASKS["trec"], Regime(), 0)


def test_every_example_comes_once_an_epoch() -> None:
    drawn = [i for batch in training_batches([5] * 64, 8, 24, seed=0) for i in batch]
    for epoch in range(3):
        assert sorted(drawn[epoch * 64 : epoch * 64 + 64]) == list(range(64))


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("name", toy.KINDS)
def test_an_empty_text_is_encoded(name: str, plain: bool) -> None:
    templater = Templater(TASKS["toy-foreign-0"], toy.tokenizer(name), BACKBONES[name].form, plain, 48)
    encoded = templater.encode([""], 0)
    assert len(encoded.ids) >= 1 and not encoded.perturbable.any()


def test_collate_pads_on_the_right() -> None:
    tokens = toy.tokenizer("toy-encoder")
    templater = Templater(TASKS["toy-foreign-0"], tokens, "masked", False, 48)
    sentences = [text for text, _ in toy.sentences(4, 1)]
    encoded = [templater.encode([text], i % 2) for i, text in enumerate(sentences)]
    batch = collate(encoded, tokens.pad_token_id, [9, 8, 7, 6], range(4), torch.device("cpu"))
    lengths = [len(e.ids) for e in encoded]
    assert batch.text_mask.sum(1).tolist() == lengths and batch.ids.shape == (4, max(lengths))
    assert (batch.ids[~batch.text_mask] == tokens.pad_token_id).all()
    assert (batch.ids[torch.arange(4), batch.answer] == tokens.mask_token_id).all()
    assert batch.noise_seeds.tolist() == [9, 8, 7, 6] and batch.labels.tolist() == [0, 1, 0, 1]
