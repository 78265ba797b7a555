"""The feature cache: exact, built once, safe among processes, bounded."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matrices import wrong
from pairs import covering
from tiny_models import MODELS
from tuned_models import HEADS, encodings_of, form, mechanism, method_of, name, passes, regularizer_of, tuned

from bench import board
from bench.core.settings import InputError
from bench.matrix.cell import Cell
from bench.methods.tuned_model import TunedModel
from bench.models.backbones import Backbone
from bench.models.heads import Linear
from bench.models.stack import CachedPrefix
from bench.records.record import Record
from bench.training.engine import World
from bench.training.feature_cache import Features, open_features
from bench.training.feature_cache.store import LIMIT, Store, make_room
from bench.training.loader import Loader, Request

CPU = torch.device("cpu")
LATE = {"kind": "late_prompt", "depth": 1, "generator": "naive", "bottleneck": 4}
LORA = {"kind": "peft", "config": {"peft_type": "LORA", "r": 2, "layers_to_transform": [2]}}


@dataclass(frozen=True)
class Alone(World):
    """A group of one, without a launcher."""

    def gather(self, value: Any) -> list[Any]:
        return [value]


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


# exact


def cell_of(model: TunedModel, regularizer: dict, head: Any, **fields: Any) -> Cell:
    """What opening the cache asks a cell for."""
    config = model.stack.config
    backbone = Backbone(name="tiny", source="folder", location="", model_type=config.model_type, layers=3)
    precision = {torch.float32: "fp32", torch.bfloat16: "bf16"}[model.dtype]
    fields = {"precision": precision, "seed": 0, "feature_cache": True, **fields}
    return Cell.model_construct(backbone=backbone, regularizer=regularizer_of(regularizer), head=head, **fields)


def opened(model: TunedModel, regularizer: dict, head: Any, **fields: Any) -> Features | None:
    cell = cell_of(model, regularizer, head, **fields)
    return open_features(cell, model, encodings_of(model), Alone(0, 1, CPU, "here"))


def trained(model: TunedModel, loaded: Any, regularizer: dict, below: CachedPrefix | None) -> list[torch.Tensor]:
    """The losses and gradients of a step, from one seed."""
    torch.manual_seed(5)
    model.zero_grad()
    losses = []
    for shown in passes(model, loaded.batch, regularizer, below):
        loss, _ = model(shown)
        loss.backward()
        losses.append(loss.detach())
    gradients = [p.grad for p in model.trainable().values() if p.grad is not None]
    assert gradients
    return [*losses, *gradients]


@contextmanager
def not_run(model: TunedModel, depth: int) -> Iterator[None]:
    """Fails where the walk passes a layer below `depth`."""

    def fail(*_: object) -> None:
        raise AssertionError("a layer ran whose states are known")

    hooks = [layer.register_forward_pre_hook(fail) for layer in model.stack.layers[:depth]]
    yield
    for hook in hooks:
        hook.remove()


PLAIN = {"kind": "none"}
REGULARIZERS = [
    {"kind": "noise", "sigma": 0.1, "depth": 1},
    {"kind": "noise", "sigma": 0.1, "depth": 2, "clean_weight": 0},
    {"kind": "noise", "sigma": 0.1, "depth": 2, "loss": "symmetric_kl"},
    {"kind": "attack", "depth": 1},
    {"kind": "attack", "depth": 2},
    {"kind": "attack", "algorithm": "freelb", "depth": 1},
    {"kind": "attack", "algorithm": "freelb", "depth": 2},
]
HEAD_CASES = [Linear(pooling="mean"), Linear(pooling="last"), Linear()]
METHODS = [
    LATE,
    {"kind": "late_prompt", "depth": 2, "generator": "average_pooling", "bottleneck": 4},
    {"kind": "adapter", "reduction": 8, "drop": 2},
    {"kind": "linear_probe"},
]
EXACT = [(family, method, PLAIN, None) for family in MODELS for method in METHODS]
EXACT += [(family, LORA, PLAIN, None) for family in ("roberta", "bert", "llama", "gpt2")]
EXACT += [(family, LATE, regularizer, None) for family in ("roberta", "llama", "t5") for regularizer in REGULARIZERS]
EXACT += [(family, {"kind": "linear_probe"}, PLAIN, head) for family in ("roberta", "gpt2") for head in HEAD_CASES]
EXACT = [(*case, torch.float32) for case in EXACT] + [(*case, torch.bfloat16) for case in EXACT if case[1] == LATE]


@covering("family, method, regularizer, head, dtype", EXACT, name, method=mechanism, family=form)
def test_losses_and_gradients_are_those_without(family, method, regularizer, head, dtype) -> None:
    """To rounding: the cache's batches are padded otherwise."""
    head = head or HEADS[method_of(method).heads[0]]()
    model = tuned(family, method, head).to(dtype).train()
    features = opened(model, regularizer, head)
    assert features is not None and features.built == 4 and features.depth > 0
    encodings = encodings_of(model)
    loaded = Loader(encodings, CPU, features).load(Request(encodings.train, [2, 0, 3], [100, 101, 102]))
    assert loaded.cached_prefix is not None
    expected = trained(model, loaded, regularizer, None)
    with not_run(model, features.depth):
        found = trained(model, loaded, regularizer, loaded.cached_prefix)
    bound = 1e-4 if dtype == torch.float32 else 0.1
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() <= bound * theirs.norm() + 1e-6, (ours, theirs)


@pytest.mark.parametrize(
    ("method", "regularizer"),
    [
        ({"kind": "prompt_tuning", "length": 3}, PLAIN),
        ({"kind": "full"}, PLAIN),
        (LATE, {"kind": "attack"}),
        (LATE, {"kind": "noise", "sigma": 0.1, "depth": 0}),
        (LATE, {"kind": "noise", "space": "text", "operation": "replace"}),
    ],
    ids=name,
)
def test_nothing_is_kept_where_nothing_lies_below(method: dict, regularizer: dict, stores: Path) -> None:
    model = tuned("roberta", method)
    assert opened(model, regularizer, HEADS["answer_words"]()) is None and not stores.exists()


@pytest.mark.parametrize("operation", ["mask", "replace", "swap", "delete", "insert"])
def test_other_words_of_the_same_example_are_not_looked_up(operation: str) -> None:
    """Views of other words make batches with the same index."""
    model = tuned("roberta", LATE)
    features = opened(model, PLAIN, HEADS["answer_words"]())
    encodings = encodings_of(model)
    loaded = Loader(encodings, CPU, features).load(Request(encodings.train, [0, 1], [7, 8]))
    noise = {"kind": "noise", "space": "text", "operation": operation, "rate": 1.0, "clean_weight": 0}
    for ours, theirs in zip(
        trained(model, loaded, noise, loaded.cached_prefix), trained(model, loaded, noise, None), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_the_store_is_of_the_weights_and_all_that_changes_the_states(stores: Path) -> None:
    head = HEADS["answer_words"]()

    def folders(model: TunedModel, regularizer: dict = PLAIN, **fields: Any) -> int:
        opened(model, regularizer, head, **fields)
        return len(list(stores.iterdir()))

    late = tuned("roberta", {**LATE, "depth": 2})
    assert folders(late) == 1
    assert folders(late, seed=1) == folders(tuned("roberta", {"kind": "adapter", "drop": 2})) == 1, "shared"
    assert folders(late, {"kind": "attack", "depth": 1}) == 2, "the depth"
    assert folders(late.to(torch.bfloat16)) == 3, "the precision"
    assert folders(tuned("bert", {**LATE, "depth": 2})) == 4, "the backbone"
    assert folders(tuned("bert", {**LATE, "depth": 2}), attention="eager") == 5
    assert folders(tuned("bert", {**LATE, "depth": 2}), weights="random") == 6


def test_states_of_other_weights_under_the_same_name_are_refused() -> None:
    model = tuned("roberta", LATE)
    assert opened(model, PLAIN, HEADS["answer_words"]()) is not None
    with torch.no_grad():
        model.stack.layers[0].output.dense.weight.mul_(1.1)
    with pytest.raises(ValueError, match=r"feature cache: .* is off by 0\.\d+, expected what this backbone gives"):
        opened(model, PLAIN, HEADS["answer_words"]())


def test_a_matrix_with_lower_dropout_is_refused(write_matrix) -> None:
    file = write_matrix({"feature_cache": True, "lower_dropout": [False, True], "method": [LATE]})
    (line,) = wrong(file)
    assert "feature_cache: found true, expected false with lower_dropout: the lower layers" in line, line


# built once, by several processes


def rows_of(numbers: range, tokens: int = 3, width: int = 8) -> dict[bytes, np.ndarray]:
    return {i.to_bytes(16, "big"): np.full((tokens, width), i % 251, np.uint8) for i in numbers}


def check_rows(store: Store, numbers: range) -> None:
    for key, row in rows_of(numbers).items():
        assert np.array_equal(store.rows[key], row)


def write_many(folder: Path, start: int) -> None:
    store = Store(folder, 8)
    for first in range(start, start + 100, 10):
        store.write(rows_of(range(first, first + 10)))
        store.open(rows_of(range(first + 10)).keys())
        check_rows(store, range(first, first + 10))


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # writers use no thread and no torch
def test_two_processes_write_at_once(stores: Path) -> None:
    """Half of what they write is the same. They are forks, which begin together and import nothing."""
    forking = multiprocessing.get_context("fork")
    writers = [forking.Process(target=write_many, args=(stores / "one", start)) for start in (0, 50)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    store = Store(stores / "one", 8)
    store.open(rows_of(range(150)).keys())
    check_rows(store, range(150))
    assert len(list(store.folder.iterdir())) == 20, "no file is left that is none"


def damaged(content: bytes) -> dict[str, bytes]:
    header = int.from_bytes(content[:8], "little")
    return {
        "torn": content[: len(content) * 2 // 3],
        "longer": content + b"\0" * 8,
        "empty": b"",
        "header": content[: header // 2],
        "no shard": b"\0" * 400,
        "another store's": content.replace(b'"store":"one"', b'"store":"two"'),
        "no tensors": b"\2\0\0\0\0\0\0\0{}",
    }


@pytest.mark.parametrize("kind", damaged(b"\0" * 99))
def test_a_torn_or_foreign_shard_is_left_out(kind: str, stores: Path) -> None:
    store = Store(stores / "one", 8)
    store.write(rows_of(range(5)))
    (file,) = store.folder.iterdir()
    file.write_bytes(damaged(file.read_bytes())[kind])
    store.write(rows_of(range(5, 8)))
    store.open(rows_of(range(8)).keys())
    assert store.rows.keys() == rows_of(range(5, 8)).keys()


def test_a_shard_of_states_of_another_width_is_left_out(stores: Path) -> None:
    Store(stores / "one", 8).write(rows_of(range(5)))
    store = Store(stores / "one", 16)
    store.open(rows_of(range(5)).keys())
    assert not store.rows


def test_what_a_torn_shard_lacks_is_built_again() -> None:
    model, head = tuned("roberta", LATE), HEADS["answer_words"]()
    first = opened(model, PLAIN, head)
    assert first is not None and first.built == 4 and first.bytes == (9 + 12 + 5 + 7) * 32 * 4
    again = opened(model, PLAIN, head)
    assert again is not None and again.built == 0 and again.bytes == first.bytes
    (file,) = first.store.folder.iterdir()
    os.truncate(file, file.stat().st_size - 1)
    third = opened(model, PLAIN, head)
    assert third is not None and third.built == 4


# bounded


def gib(size: int) -> str:
    return repr(size / 2**30)


def test_least_recently_used_shards_make_room(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Store(stores / "one", 8), Store(stores / "two", 8)
    for number, store in enumerate((one, one, two, two)):
        store.write(rows_of(range(number, number + 1)))
    oldest = [file for store in (two, one) for file in store.folder.iterdir()]
    for age, file in enumerate(oldest):
        os.utime(file, (1000 + age, 1000 + age))
    size = oldest[0].stat().st_size
    reader = Store(oldest[0].parent, 8)
    reader.open(rows_of(range(4)).keys())  # uses both shards of its folder
    assert len(reader.in_use) == 2
    abandoned, writing = stores / "one" / ".x.safetensors.1", stores / "one" / ".y.safetensors.2"
    for file in (abandoned, writing):
        file.write_bytes(b"0")
    os.utime(abandoned, (0, 0))
    monkeypatch.setenv(LIMIT, gib(4 * size + 10))
    make_room(stores, size, set())
    left = set(stores.glob("*/*.safetensors"))
    assert left == set(oldest) - {oldest[2]}, "the least recently used"
    assert writing.exists() and not abandoned.exists()
    make_room(stores, 2 * size, reader.in_use)
    assert reader.in_use <= set(stores.glob("*/*.safetensors"))
    with pytest.raises(ValueError, match=f"feature cache: the cell needs .* GiB, and {LIMIT} allows"):
        make_room(stores, 3 * size, reader.in_use)
    for file in reader.in_use:
        file.unlink()
    assert all((row == key[-1]).all() for key, row in reader.rows.items()), "what is mapped stays"


@pytest.mark.parametrize("value", ["much", "-1", "inf", "nan"])
def test_a_limit_that_is_none_is_named(value: str, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, value)
    with pytest.raises(InputError, match=f"environment: {LIMIT}: found '{value}', expected a number of GiB"):
        make_room(stores, 1, set())


# on two ranks


def curves(made: dict[str, Record]) -> dict[str, tuple[list[float | None], str]]:
    """Losses and answers, by all of the cell but the cache."""
    found: dict[str, tuple[list[float | None], str]] = {}
    for record in made.values():
        assert record.status == "ok" and record.quality is not None, record.failure
        key = json.dumps({k: v for k, v in record.cell.items() if k != "feature_cache"}, sort_keys=True)
        found[key] = [point.train_loss for point in record.quality.curve], record.quality.outcomes
    return found


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.full)], ids=["some", "all"])
def test_two_ranks_train_as_without_on_stages_2_and_3(whole: bool, write_matrix, ranks) -> None:
    axes = {
        "method": [{**LATE, "depth": 2}, "linear_probe"],
        "regularizer": ["none", {"kind": "attack", "depth": 1}],
        "head": {"kind": "linear"},
        "zero": ["zero2", "zero3"],
        "ranks": 2,
        "steps": 4,
        "evaluate_every": 2,
        "micro_batch_size": 2,
        "feature_cache": [True, False],
    }
    without = [{"method": "linear_probe", "regularizer": "attack"}]
    fewer = [{"method": "linear_probe", "zero": "zero3"}, {"regularizer": "attack", "zero": "zero2"}]
    file = write_matrix(axes, exclude=without if whole else [*without, *fewer])
    made = ranks.serve(file)
    cached = {key: record for key, record in made.items() if record.cell["feature_cache"]}
    ours, theirs = curves(cached), curves({key: record for key, record in made.items() if key not in cached})
    assert len(ours) == (6 if whole else 4) and ours.keys() == theirs.keys()
    for key, (losses, answers) in theirs.items():
        assert answers == ours[key][1]
        assert all(abs(a - b) < 1e-5 for a, b in zip(losses, ours[key][0], strict=True) if a and b), key
    costs = [record.cost for record in sorted(cached.values(), key=lambda record: record.started) if record.cost]
    assert all(cost.feature_cache_bytes for cost in costs)
    # three depths, and each is built by the first cell that needs it, under whichever stage
    assert sum(1 for cost in costs if cost.feature_cache_built) == 3
    assert sum(1 for cost in costs if cost.feature_cache_built == 0) == len(costs) - 3
    assert all({"load", "setup", "cache", "train", "evaluate", "save"} <= cost.seconds.keys() for cost in costs)
    assert all(cost.data_wait_share is not None and 0 <= cost.data_wait_share < 1 for cost in costs)
    assert ", feature cache" in board.markdown(list(made.values()), details=False)
