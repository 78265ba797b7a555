"""Whatever stands in a file: no traceback, no endless wait, and a line that names the file and the place in it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed import NO_FILE, NO_JSON, NO_TEXT, NO_YAML, PLAIN, spoiled
from runs import call
from sample_records import record

from bench import board
from bench.board import claims
from bench.cluster.hostfile import read_hostfile
from bench.core import files
from bench.core.settings import InputError
from bench.data.splits import Examples, _read, read_examples
from bench.data.tasks import TASKS, parse_task
from bench.matrix import matrix
from bench.records import published, sample_cards, store

pytestmark = pytest.mark.timeout(60)

SMALL = {"backbone": "toy-encoder", "task": "toy-foreign-0", "method": "full", "steps": 6, "batch_size": 8}
WHOLE = {  # a bit of everything that a matrix may have
    "name": "m",
    "defaults": {
        **SMALL,
        "regime": {"per_class": 8},
        "vary": ["sample"],
        "landscape": {"radius": 2, "weights": True},
        "head": {"kind": "linear", "pooling": "mean"},
    },
    "axes": {
        "method": [
            {"kind": "late_prompt", "depth": 1, "generator": "naive", "length": 5},
            {"kind": "peft", "config": {"peft_type": "LORA", "r": 8}, "recipe": {"learning_rate": [5e-4, 1e-3]}},
            {"kind": "prefix_tuning", "length": 3, "recipe": {"betas": [0.9, 0.99]}},
        ],
        "regularizer": ["none", {"kind": "noise", "sigma": 0.1}, {"kind": "attack", "space": "text", "rate": 0.2}],
        "zero": ["zero2"],
        "seed": [0, 1],
    },
    "include": [{"seed": 5, "method": "bitfit", "task": {"name": "sst2", "words": ["bad", "good"]}}],
    "exclude": [{"method": {"kind": "late_prompt"}, "seed": 0}],
    "tuning": {"seeds": [100, 101]},
}
TASK = {
    "name": "reviews",
    "fields": ["text"],
    "labels": ["negative", "positive"],
    "words": ["terrible", "great"],
    "masked": "{text} . It was {mask} .",
    "causal": "{text} It was",
    "metrics": ["accuracy"],
    "splits": {"train": ["train"], "test": ["test"]},
    "hub": {"path": "owner/name", "fields": {"text": "review"}, "labels": [0, 1]},
}
ZERO = {
    "train_batch_size": 7,
    "bf16": {"enabled": True},
    "zero_optimization": {
        "stage": 3,
        "reduce_bucket_size": 200_000_000,
        "zero_hpz_partition_size": 8,
        "offload_optimizer": {"device": "nvme", "nvme_path": "$BENCH_NVME", "buffer_count": 5},
        "offload_param": None,
    },
}
CLAIM = yaml.safe_load(files.shipped("claims.yaml").read_text("utf-8"))
SOURCE = yaml.safe_load(next(iter(sorted(files.shipped("published").glob("*.yaml")))).read_text("utf-8"))


def read_matrix(file: Path) -> Any:
    """As `bench expand` and `bench run` do; what is read can be written, too."""
    cells = matrix.load(str(file)).expand()
    for cell in cells[:5]:
        json.dumps([cell.content(), cell.labels().model_dump()], allow_nan=False).encode()
        assert len(cell.name) <= 240 and cell.name.isascii() and "/" not in cell.name
    return cells


def within(file: Path, **fields: Any) -> Any:
    """A matrix that names `file`."""
    around = file.with_name("around.yaml")
    around.write_text(json.dumps({"defaults": SMALL | fields, "axes": {"seed": 0}}))
    return read_matrix(around)


READERS: dict[str, Callable[[Path], Any]] = {
    "matrix": read_matrix,
    "task": lambda file: within(file, task={"path": str(file)}),
    "ds_config": lambda file: within(file, zero={"path": str(file)}),
    "hostfile": read_hostfile,
    "published": published.load,
    "claims": claims.load,
}
YAMLS = ("matrix", "task", "published", "claims")


def said_of(kind: str, file: Path) -> str:
    """What the reader says of a file that it refuses: lines for a terminal, each of which names a file."""
    with pytest.raises(InputError) as caught:
        READERS[kind](file)
    said = str(caught.value)
    assert all(str(file.parent) in line for line in said.splitlines())
    assert all(line.isprintable() for line in said.splitlines()), repr(said)
    assert len(max(said.splitlines(), key=len)) < 2000, "a message is not the file"
    return said


@pytest.mark.parametrize("place", NO_FILE)
@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_file_is_named(kind: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / "input"
    NO_FILE[place](file)
    said = said_of(kind, file)
    assert str(file) in said and ("pipe" not in place or "found no regular file" in said)


@pytest.mark.parametrize("what", NO_TEXT)
@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_text_is_named(kind: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(NO_TEXT[what])
    assert str(file) in said_of(kind, file)


@pytest.mark.parametrize("what", NO_YAML)
@pytest.mark.parametrize("kind", YAMLS)
def test_what_is_no_yaml_is_named(kind: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "input"
    file.write_bytes(NO_YAML[what])
    assert str(file) in said_of(kind, file)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("what", NO_JSON)
def test_what_is_no_json_is_named(what: str, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(NO_JSON[what])
    assert str(file) in said_of("ds_config", file)


@pytest.mark.parametrize("kind", READERS)
def test_a_byte_order_mark_is_no_fault(kind: str, tmp_path: Path) -> None:
    plain = {"matrix": {"defaults": SMALL, "axes": {"seed": 0}}, "task": TASK, "ds_config": ZERO}
    plain |= {"published": SOURCE, "claims": CLAIM}
    content = json.dumps(plain[kind]) if kind in plain else "node1 slots=2\n"
    file = tmp_path / "input"
    file.write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert READERS[kind](file)


# matrices

SEEDS = list(range(1000))
MATRICES: list[tuple[dict[str, Any], str]] = [
    ({"axes": {"seed": True}}, "axes.seed: found True"),
    ({"axes": {"seed": -1}}, "axes.seed: found -1"),
    ({"axes": {"seed": "0"}}, "axes.seed: found '0'"),
    ({"axes": {"seed": {}}}, "axes.seed: found {}"),
    ({"axes": {"seed": [[0]]}}, "axes.seed[0]: found [0]"),
    ({"axes": {"seed": None}}, "axes.seed: found None"),
    ({"axes": {"steps": 0}}, "axes.steps: found 0"),
    ({"axes": {"steps": 1.5}}, "axes.steps: found 1.5"),
    ({"axes": {"steps": True}}, "axes.steps: found True"),
    ({"axes": {"ranks": 0}}, "axes.ranks: found 0"),
    ({"axes": {"batch_size": "16"}}, "axes.batch_size: found '16'"),
    ({"axes": {"max_length": 7}}, "axes.max_length: found 7"),
    ({"axes": {"precision": "fp8"}}, "axes.precision: found 'fp8'"),
    ({"axes": {"compile": "yes"}}, "axes.compile: found 'yes'"),
    ({"axes": {"compile": 1}}, "axes.compile: found 1"),
    ({"axes": {"evaluate_every": "step"}}, "axes.evaluate_every: found 'step'"),
    ({"axes": {"vary": ["luck"]}}, "axes.vary: found ['luck']"),
    ({"axes": {"tuning": {}}}, "axes.tuning: unknown field"),
    ({"axes": {1: 2}}, "axes.1: unknown field"),
    ({"axes": {"method": True}}, "axes.method: found True"),
    ({"axes": {"method": {"kind": ["full"]}}}, "axes.method: found ['full']"),
    ({"axes": {"method": {"kind": "late_prompt", "depth": True}}}, "axes.method.depth: found True, expected a number"),
    ({"axes": {"method": {"kind": "late_prompt", "depth": 10**30}}}, "which is more than 64 bits"),
    ({"axes": {"method": {"kind": "late_prompt", "depth": -1}}}, "axes.method.depth: found -1"),
    ({"axes": {"method": {"kind": "prompt_tuning", "length": 0}}}, "axes.method.length: found 0"),
    ({"axes": {"method": {"kind": "full", "recipe": 1}}}, "axes.method.recipe: found 1"),
    (
        {"axes": {"method": {"kind": "full", "recipe": {"learning_rate": True}}}},
        "axes.method.recipe.learning_rate: found True, expected a number",
    ),
    (
        {"axes": {"method": {"kind": "full", "recipe": {"learning_rate": [True]}}}},
        "axes.method.recipe.learning_rate: found True, expected a number",
    ),
    (
        {"axes": {"method": {"kind": "full", "recipe": {"betas": [0.9, True]}}}},
        "axes.method.recipe.betas[1]: found True",
    ),
    ({"axes": {"method": {"kind": "full", "recipe": {"betas": [0.9]}}}}, "axes.method.recipe.betas"),
    ({"axes": {"regularizer": {"kind": "noise", "sigma": True}}}, "axes.regularizer.sigma: found True"),
    ({"axes": {"regularizer": {"kind": "noise", "space": ["text"]}}}, "axes.regularizer.space: found a list"),
    ({"axes": {"regularizer": None}}, "axes.regularizer: found None"),
    ({"axes": {"landscape": {"radius": False}}}, "axes.landscape.radius: found False"),
    ({"axes": {"landscape": {"grid": 10**9}}}, "axes.landscape.grid: found 1000000000"),
    ({"axes": {"regime": {"total": True}}}, "axes.regime: found {'total': True}"),
    ({"axes": {"regime": {"total": 1.5}}}, "axes.regime: found {'total': 1.5}"),
    ({"axes": {"regime": ["full", 3]}}, "axes.regime[1]: found 3"),
    ({"axes": {"head": "linar"}}, "axes.head: found 'linar'"),
    ({"axes": {"protocol": {}}}, "axes.protocol: found {}"),
    ({"axes": {"task": {"path": 3}}}, "axes.task.path: found 3"),
    ({"axes": {"task": {"path": "x\0y"}}}, "axes.task.path: found 'x\\x00y'"),
    ({"axes": {"task": {"name": "sst2", "labels": [True, True]}}}, "axes.task.labels: found [True, True]"),
    ({"axes": {"task": "../../etc/passwd"}}, "axes.task: found '../../etc/passwd'"),
    ({"axes": {"backbone": 3}}, "axes.backbone: found 3"),
    ({"axes": {"backbone": {"path": ["x"]}}}, "axes.backbone: found {'path': ['x']}"),
    ({"axes": {"backbone": {"path": "x\0y"}}}, "axes.backbone.path: found 'x\\x00y'"),
    ({"axes": {"backbone": {"path": "x" * 5000}}}, "axes.backbone.path: found"),
    ({"axes": {"backbone": {"pickle": "mine"}}}, "axes.backbone: found {'pickle': 'mine'}"),
    (
        {"axes": {"backbone": {"name": "gpt2", "trust_remote_code": True}}},
        "axes.backbone.trust_remote_code: unknown key",
    ),
    ({"axes": {"zero": {"path": "x\0y"}}}, "axes.zero"),
    ({"axes": {"zero": {"path": ["a"]}}}, "axes.zero"),
    ({"axes": {"seed": SEEDS, "steps": SEEDS[1:], "max_length": SEEDS[8:]}}, "axes: found 991,008,000 cells, expected"),
    (
        {"axes": {"seed": 0}, "include": [{"seed": SEEDS, "steps": SEEDS[1:], "batch_size": [8, 16]}]},
        "axes: found 1,998,001 cells, expected 1,000,000 at most",
    ),
    (
        {
            "axes": {
                "method": {
                    "kind": "full",
                    "recipe": {"learning_rate": SEEDS[1:], "epsilon": SEEDS[1:], "clip": SEEDS},
                }
            }
        },
        "axes.method.recipe: found 998,001,000 combinations to choose from",
    ),
    ({"axes": {"seed": 0}, "tuning": {"seeds": [True]}}, "tuning.seeds[0]: found True"),
    ({"axes": {"seed": 0}, "tuning": {"seeds": []}}, "tuning.seeds: found []"),
    ({"axes": {"seed": 0}, "tuning": []}, "tuning: found []"),
    ({"axes": {"seed": 0}, "include": {"seed": 1}}, "include: found {'seed': 1}, expected a list"),
    ({"axes": {"seed": 0}, "exclude": ["full"]}, "exclude[0]: found 'full', expected a mapping"),
    ({"axes": []}, "axes: found [], expected a mapping"),
    ({"axes": {"seed": 0}, "defaults": 3}, "defaults: found 3, expected a mapping"),
    ({"axes": {"seed": 0}, "default": {}}, "default: unknown key"),
]


@pytest.mark.parametrize(("content", "expected"), MATRICES, ids=[expected[:60] for _, expected in MATRICES])
def test_a_matrix_that_means_nothing_is_told_where(content: dict[str, Any], expected: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"defaults": SMALL} | content))
    assert expected in said_of("matrix", file)


# tasks

TASKS_SPOILED: list[tuple[dict[str, Any], str]] = [
    ({"name": "../up"}, "name: found '../up'"),
    ({"name": ""}, "name: found ''"),
    ({"name": "x" * 49}, "name: found 'xxx"),
    ({"name": "caf\u00e9"}, "name: found 'caf"),
    ({"name": ["x"]}, "name: found ['x']"),
    ({"name": "sst2"}, "name: found sst2, which there is already"),
    ({"labels": "ab"}, "labels: found 'ab'"),
    ({"labels": [1]}, "words: found ['terrible', 'great']"),
    ({"labels": [[1], [2]]}, "labels[0]"),
    ({"words": ["x", "x"]}, "words: found ['x', 'x']"),
    ({"words": [1, 2]}, "words[0]: found 1"),
    ({"fields": []}, "fields: found []"),
    ({"fields": "text"}, "fields: found 'text'"),
    ({"masked": 3}, "masked: found 3"),
    ({"masked": "{text"}, "masked: found '{text'"),
    ({"masked": "{text} {mask} {mask}"}, "expected {mask} in it once"),
    ({"masked": "{text.__class__} {mask}"}, "masked: found {text.__class__}"),
    ({"causal": "{text!r}"}, "causal: found '{text!r}'"),
    ({"metrics": ["bleu"]}, "metrics: found ['bleu']"),
    ({"metrics": []}, "metrics: found []"),
    ({"splits": {"train": ["a"]}}, "splits: found train, expected also test"),
    ({"splits": {"train": ["a"], "test": ["a"]}}, "splits: found a twice"),
    ({"splits": []}, "splits: found []"),
    ({"hub": "owner/name"}, "hub: found 'owner/name'"),
    ({"hub": {"path": "owner/name", "revision": "../../../etc/passwd"}}, "hub.revision: found '../../../etc/passwd'"),
    ({"path": "mine.yaml"}, "path: unknown key"),
    ({"form": 3}, "form: found 3"),
    ({"source": "web"}, "source: found 'web'"),
]


@pytest.mark.parametrize(("changes", "expected"), TASKS_SPOILED, ids=[expected[:60] for _, expected in TASKS_SPOILED])
def test_a_task_that_means_nothing_is_told_where(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(yaml.safe_dump(TASK | changes))
    said = said_of("task", file)
    assert expected in said and str(file) in said


# ds_configs

ZEROS: list[tuple[Any, str]] = [
    (None, "found None, expected a DeepSpeed configuration"),
    ("zero2", "found 'zero2', expected"),
    ({"zero_optimization": None}, "zero_optimization: found None, expected a mapping"),
    ({"zero_optimization": []}, "zero_optimization: found []"),
    ({"zero_optimization": {"stage": True}}, "stage: found True"),
    ({"zero_optimization": {"stage": "3"}}, "stage: found '3'"),
    ({"zero_optimization": {"stage": 3.0}}, "stage: found 3.0"),
    ({"zero_optimization": {"stage": -1}}, "stage: found -1"),
    ({"zero_optimization": {"reduce_bucket_size": 0}}, "reduce_bucket_size: found 0"),
    ({"zero_optimization": {"reduce_bucket_size": None}}, "reduce_bucket_size: found None"),
    ({"zero_optimization": {"zero_hpz_partition_size": True}}, "zero_hpz_partition_size: found True"),
    ({"zero_optimization": {"offload_param": "cpu"}}, "offload_param: found 'cpu'"),
    ({"zero_optimization": {"offload_optimizer": {"device": ["cpu"]}}}, "offload_optimizer.device: found ['cpu']"),
    ({"zero_optimization": {"offload_optimizer": {"nvme_path": 3}}}, "nvme_path a text"),
    ({"bf16": None}, "bf16: found None"),
    ({"fp16": "auto"}, "fp16: found 'auto'"),
    ({"optimizer": {"type": "AdamW"}}, "optimizer: found"),
    ({"scheduler": {"type": "WarmupLR"}}, "scheduler: found"),
    ({"gradient_clipping": "auto"}, "gradient_clipping: found 'auto'"),
]


@pytest.mark.parametrize(("content", "expected"), ZEROS, ids=[expected[:60] for _, expected in ZEROS])
def test_a_ds_config_that_would_break_the_engine_is_told_where(content: Any, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(content))
    said = said_of("ds_config", file)
    assert expected in said and str(file) in said


def test_batch_sizes_of_a_ds_config_are_the_cells(tmp_path: Path) -> None:
    from bench.training.engine.configuration import configuration

    file = tmp_path / "ds.json"
    file.write_text(json.dumps({"train_batch_size": 7, "train_micro_batch_size_per_gpu": 7, "gradient_clipping": 9}))
    (cell,) = within(file, zero={"path": str(file)})
    made = configuration(cell, 10)
    assert "train_batch_size" not in made
    assert (made["train_micro_batch_size_per_gpu"], made["gradient_accumulation_steps"]) == (8, 1)
    assert made["gradient_clipping"] == cell.method.recipe.clip


# hostfiles

HOSTFILES = [
    *("node1", "node1 2", "node1 slots", "node1 slots=", "node1 slots=two", "node1 slots=-1", "node1 slots=0"),
    *("node1 slots=1.5", "node1 slots=\u00b2", "node1 slots=\u0663", "node1 slots=99999999999999999999", "slots=2"),
    *("node1 slots=2 node2 slots=2", "node1 slots=2 gpu", "node1 slots=2\nnode1 slots=2", "node1 slots = 2"),
    *("node1:22 slots=2", "user@node1 slots=2", "node1,node2 slots=2", "[node1 slots=2", "n\u00f6de slots=2"),
    *("-oProxyCommand=touch\u00a0x slots=2", "-oProxyCommand=reboot slots=2", "- slots=1", "a;touch slots=2"),
    *(
        "$(reboot) slots=2",
        "`reboot` slots=2",
        "a|b slots=2",
        "a&b slots=2",
        "a>b slots=2",
        "'a' slots=2",
        '"a" slots=2',
    ),
    *(
        "a\\b slots=2",
        "a/b slots=2",
        "../a slots=2",
        "a* slots=2",
        "{a,b} slots=2",
        "~ slots=2",
        "x" * 254 + " slots=2",
    ),
    *("node1 SLOTS=2", "node1 slots=2;reboot", "node1\tslots=0x2", "host@0,1 slots=1"),
]


@pytest.mark.parametrize("line", HOSTFILES, ids=range(len(HOSTFILES)))
def test_a_line_that_is_no_host_is_told_where(line: str, tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(f"# ours\ngood.example-1_a slots=2  # eight some day\n{line}\n")
    said = said_of("hostfile", file)
    assert f"{file}: line {3 + line.count(chr(10))}: found " in said and "expected" in said


def test_a_hostfile_without_hosts_is_told(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# node1 slots=2\n\n")
    assert "found no host" in said_of("hostfile", file)


# data

ROWS = [{"text": f"word {i}", "label": ["negative", "positive"][i % 2]} for i in range(8)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
LINES: list[tuple[bytes, str]] = [
    (b"{", "Expecting property name"),
    (b"[]", "found [], expected a JSON object"),
    (b"3", "found 3, expected a JSON object"),
    (b"{}", "field text is missing"),
    (b'{"text": "x"}', "field label is missing"),
    (b'{"text": 3, "label": "positive"}', "field text: found 3, expected a text"),
    (b'{"text": ["x"], "label": "positive"}', "field text: found ['x']"),
    (b'{"text": null, "label": "positive"}', "field text: found None"),
    (b'{"text": "\\ud800", "label": "positive"}', "half a character"),
    (b'{"text": "x", "label": "neutral"}', "field label: found 'neutral'"),
    (b'{"text": "x", "label": ["positive"]}', "field label: found ['positive']"),
    (b'{"text": "x", "label": {}}', "field label: found {}"),
    (b'{"text": "x", "label": true}', "field label: found True"),
    (b'{"text": NaN, "label": "positive"}', "found NaN"),
    (b'{"text": ' + b"9" * 5000 + b', "label": "positive"}', "integer string conversion"),
    (b"[" * 100_000, "recursion"),
    (b'{"text": "caf\xe9", "label": "positive"}', "found the byte 0xe9"),
    (JSONL.decode().encode("utf-16"), "found the byte 0xff"),
]


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whole data of the task TASK, to be spoiled."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    folder = tmp_path / "reviews"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_bytes(JSONL)
    return folder


def read_data() -> Examples:
    task = parse_task({"name": "sst2", "folder": "reviews", "source": "folder", "fields": ["text"]} | OWN, "task", [])
    assert task is not None
    _read.cache_clear()
    return read_examples(task)


OWN = {name: TASK[name] for name in ("labels", "words", "masked", "causal")} | {
    "splits": {"train": ["train"], "test": ["test"]}
}


@pytest.mark.parametrize(("line", "expected"), LINES, ids=range(len(LINES)))
def test_a_line_of_data_that_is_none_is_told_where(line: bytes, expected: str, data_folder: Path) -> None:
    assert len(read_data().splits["train"]) == 8
    file = data_folder / "train.jsonl"
    file.write_bytes(JSONL + line + b"\n")
    with pytest.raises(InputError) as caught:
        read_data()
    assert str(caught.value).startswith(f"{file}: line 9: ") and expected in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("what", [*NO_TEXT, "empty"])
def test_data_of_another_kind_is_named(suffix: str, what: str, data_folder: Path) -> None:
    (data_folder / "train.jsonl").unlink()
    file = data_folder / f"train{suffix}"
    file.write_bytes(NO_TEXT.get(what, b""))
    with pytest.raises(InputError) as caught:
        read_data()
    assert str(caught.value).startswith(f"{file}: ") and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("place", [place for place in NO_FILE if place != "1 GiB"])
def test_data_that_is_no_file_is_named(place: str, data_folder: Path) -> None:
    file = data_folder / "train.jsonl"
    file.unlink()
    NO_FILE[place](file)
    with pytest.raises(InputError, match=r"found no train in .*reviews"):
        read_data()


# published numbers and claims

TABLE, *MORE = SOURCE["tables"]
PRINTED: list[tuple[dict[str, Any], str]] = [
    ({"key": ""}, "key: found ''"),
    ({"tables": {}}, "tables: found {}"),
    ({"tables": [3]}, "tables[0]: found 3"),
    ({"tables": [TABLE | {"rows": []}]}, "tables[0].rows: found []"),
    ({"tables": [TABLE | {"seeds": True}]}, "tables[0].seeds: found True, expected a number"),
    ({"tables": [TABLE | {"unit": "%"}]}, "tables[0].unit: found '%'"),
    ({"methods": {}}, "missing, but a table has it"),
    ({"methods": {"nobody": None} | SOURCE["methods"]}, "methods.nobody: found in no table"),
    ({"tables": [TABLE | {"columns": 3}]}, "tables[0].columns: found 3"),
    (
        {"tables": [TABLE | {"rows": {name: ["x"] * len(row) for name, row in TABLE["rows"].items()}}, *MORE]},
        "found 'x', expected",
    ),
    ({"extra": 1}, "extra: unknown key"),
]


@pytest.mark.parametrize(("changes", "expected"), PRINTED, ids=[expected[:60] for _, expected in PRINTED])
def test_published_numbers_that_mean_nothing_are_told_where(
    changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    file = tmp_path / "paper.yaml"
    file.write_text(yaml.safe_dump(SOURCE | changes))
    assert expected in said_of("published", file)


ONE = CLAIM["claims"][0]
STATED: list[tuple[Any, str]] = [
    ([], "claims: missing"),
    ({"claims": 3}, "claims: found 3"),
    ({"claims": [3]}, "claims[0]: found 3"),
    ({"claims": [ONE, ONE]}, "twice, expected a name of its own"),
    ({"claims": [ONE | {"key": "../x"}]}, "claims[0].key: found '../x'"),
    ({"claims": [ONE | {"key": "<b>"}]}, "claims[0].key: found '<b>'"),
    ({"claims": [ONE | {"key": "x\n"}]}, "claims[0].key: found 'x\\n'"),
    ({"claims": [ONE | {"seeds": True}]}, "claims[0].seeds: found True, expected a number"),
    ({"claims": [ONE | {"seeds": 1}]}, "claims[0].seeds: found 1"),
    ({"claims": [ONE | {"quantity": "luck"}]}, "claims[0].quantity: found 'luck'"),
    ({"claims": [ONE | {"first": []}]}, "claims[0].first: found []"),
    ({"claims": [ONE | {"first": {"method": {"kind": "nobody"}}}]}, "claims[0].first.method"),
    ({"claims": [ONE | {"margin": 1.0}]}, "claims[0]"),
    ({"claims": [{}]}, "claims[0].key: missing"),
]


@pytest.mark.parametrize(("content", "expected"), STATED, ids=[expected[:60] for _, expected in STATED])
def test_claims_that_mean_nothing_are_told_where(content: Any, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump(content if content else {}))
    assert expected in said_of("claims", file)


# records and cards, which are left out


def spoil_record(changes: dict[str, Any], name: str = "bad") -> bytes:
    return json.dumps(record(name).model_dump(mode="json") | changes).encode()


RECORD = record("bad").model_dump(mode="json")
RECORDS: dict[str, bytes] = {
    **{name: content for name, content in NO_JSON.items() if b"zero_optimization" not in content},
    **NO_TEXT,
    "other JSON": b'{"schema_version": 1, "hello": "world"}',
    "a list of records": json.dumps([RECORD]).encode(),
    "another's content": spoil_record({}, "good"),
    "of the future": spoil_record({"schema_version": 2}),
    "of the far future": spoil_record({"schema_version": 10**30}),
    "of no schema": spoil_record({"schema_version": None}),
    "half written": json.dumps(RECORD).encode()[:-300],
    "an unknown status": spoil_record({"status": "lost"}),
    "no status": json.dumps({key: value for key, value in RECORD.items() if key != "status"}).encode(),
    "a score of 110 %": spoil_record({"quality": RECORD["quality"] | {"test": 1.1}}),
    "a negative size": spoil_record({"cost": RECORD["cost"] | {"checkpoint_bytes": -1}}),
    "a time beyond all": spoil_record({"cost": RECORD["cost"] | {"tokens_per_second": 1e300}}),
    "a list as a cell": spoil_record({"cell": []}),
    "a seed that is none": spoil_record({"cell": RECORD["cell"] | {"seed": [1]}}),
    "a method that is none": spoil_record({"cell": RECORD["cell"] | {"method": 3}}),
    "a choice that is none": spoil_record({"cell": RECORD["cell"] | {"tuning": {"role": "report"}}}),
    "an extra field": spoil_record({"extra": 1}),
}


@pytest.mark.parametrize("what", RECORDS)
def test_a_file_that_is_no_record_is_left_out_and_named(what: str, tmp_path: Path) -> None:
    store.write(tmp_path, record("good"))
    file = store.path(tmp_path, "bad")
    file.write_bytes(RECORDS[what])
    assert_left_out(tmp_path, file)


@pytest.mark.parametrize("place", [place for place in NO_FILE if place != "nothing"])
def test_what_stands_for_a_record_and_is_no_file_is_left_out_and_named(place: str, tmp_path: Path) -> None:
    store.write(tmp_path, record("good"))
    file = store.path(tmp_path, "bad")
    NO_FILE[place](file)
    assert_left_out(tmp_path, file)


def assert_left_out(results: Path, file: Path) -> None:
    reading = store.read_all(results)
    assert [one.name for one in reading.records] == ["good"]
    (line,) = reading.unreadable
    assert line.startswith(f"{file}: ") and len(line) > len(f"{file}: ")


@pytest.mark.parametrize("place", [place for place in NO_FILE if place != "nothing"])
def test_a_card_that_is_none_is_left_out_and_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    file = tmp_path / "cards" / "abc.json"
    NO_FILE[place](file)
    found, (line,) = sample_cards.read_all(tmp_path)
    assert not found and line.startswith(f"{file}: ")


@pytest.mark.parametrize(
    "content",
    [*NO_TEXT.values(), b"{}", b"[]", b'{"sample": "../../x"}', b"[" * 100_000],
    ids=lambda one: str(one[:12]),
)
def test_a_card_that_cannot_be_read_is_left_out_and_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    file = tmp_path / "cards" / "abc.json"
    file.write_bytes(content)
    found, (line,) = sample_cards.read_all(tmp_path)
    assert not found and line.startswith(f"{file}: ")


# the commands


@pytest.mark.parametrize("command", ["expand", "plan", "run", "preflight"])
@pytest.mark.parametrize(
    "what", ["empty", "a key twice", "100,000 brackets", "a bomb of aliases", "UTF-16, little end first"]
)
def test_commands_end_with_2_where_a_matrix_is_none(command: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes((NO_YAML | NO_TEXT)[what])
    done = call(command, file, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(f"bench: {file}: YAML: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("line", ["-oProxyCommand=reboot slots=2", "node1 slots=0", "\u00b2"])
def test_run_ends_with_2_where_a_hostfile_is_none(line: str, tmp_path: Path) -> None:
    file, hosts = tmp_path / "mine.yaml", tmp_path / "hosts"
    file.write_text(json.dumps({"defaults": SMALL, "axes": {"seed": 0}}))
    hosts.write_text(line)
    done = call("run", file, "--hostfile", hosts, "--results", tmp_path / "r", "--dry-run")
    assert done.returncode == 2 and done.stderr.startswith(f"bench: {hosts}: line 1: ")


@pytest.mark.parametrize("what", ["empty", "half written", "of the future", "another's content", "a torn page"])
def test_commands_go_on_without_what_is_no_record(what: str, tmp_path: Path) -> None:
    store.write(tmp_path, record("good"))
    file = store.path(tmp_path, "bad")
    file.write_bytes(RECORDS[what])
    for command in (["board", tmp_path], ["claims", tmp_path], ["diff", tmp_path, tmp_path]):
        done = call(*command)
        assert done.returncode == 0 and f"left out: {file}: " in done.stderr, (command, done)
    assert "good" in (tmp_path / "leaderboard.csv").read_text()


@pytest.mark.parametrize("what", ["empty", "a key twice", "a bomb of merges"])
def test_claims_end_with_2_where_their_file_is_none(what: str, tmp_path: Path) -> None:
    store.write(tmp_path, record("good"))
    file = tmp_path / "claims.yaml"
    file.write_bytes(NO_YAML[what])
    done = call("claims", tmp_path, "--claims", file)
    assert done.returncode == 2 and done.stderr.startswith(f"bench: {file}: YAML: ")


# made up by hypothesis: each either is read or refused as above

MADE_UP = settings(
    deadline=20_000,  # milliseconds
    database=None,
    derandomize=True,  # the same in every run
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
SPOILED = {  # with the number of examples; the default tier tries a fifth of them
    "matrix": (WHOLE, 150),
    "task": (TASK, 100),
    "ds_config": (ZERO, 100),
    "published": (SOURCE, 60),
    "claims": (CLAIM, 60),
}


def tried(kind: str, file: Path) -> None:
    try:
        READERS[kind](file)
    except InputError:
        said_of(kind, file)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", [5, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("kind", SPOILED)
def test_a_file_spoiled_anywhere_is_read_or_refused(kind: str, part: int, tmp_path: Path) -> None:
    whole, examples = SPOILED[kind]
    as_json = kind == "ds_config"

    @settings(MADE_UP, max_examples=examples // part)
    @given(spoiled(whole, PLAIN) if as_json else spoiled(whole))
    def spoil(content: Any) -> None:
        file = tmp_path / "input"
        file.write_text(json.dumps(content) if as_json else yaml.dump(content), "utf-8", "surrogatepass")
        tried(kind, file)

    (tmp_path / "input").write_text(json.dumps(whole))
    READERS[kind](tmp_path / "input")
    spoil()


@settings(MADE_UP, max_examples=150)
@given(st.text(max_size=200) | st.text(alphabet="node12 slots=#-:;$\n\t@,[]{}", max_size=80))
def test_any_text_is_a_hostfile_or_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "hosts"
    file.write_text(content, "utf-8", "surrogatepass")
    tried("hostfile", file)


@settings(MADE_UP, max_examples=200)
@given(
    st.text(alphabet="abc:-[]{}&*!|>'\"%@`?,#<~0.1 \n\t", max_size=120) | st.binary(max_size=200).map(lambda one: one)
)
def test_any_text_is_a_matrix_or_refused(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    tried("matrix", file)


@settings(MADE_UP, max_examples=100)
@given(spoiled(ROWS[0], PLAIN) | st.binary(max_size=60))
def test_any_line_of_data_is_read_or_refused(data_folder: Path, content: Any) -> None:
    line = content if isinstance(content, bytes) else json.dumps(content).encode()
    (data_folder / "train.jsonl").write_bytes(JSONL + line + b"\n")
    try:
        read_data()
    except InputError as error:
        assert str(data_folder / "train.jsonl") in str(error) and "line" in str(error)


@pytest.mark.timeout(120)
@settings(MADE_UP, max_examples=100)
@given(spoiled(RECORD, PLAIN))
def test_any_record_is_on_the_boards_or_left_out(tmp_path: Path, content: Any) -> None:
    others = [record("a", seed=1), record("b", test=None), record("c", method="other")]
    try:
        made = store.parse(json.dumps(content))
    except ValueError as error:
        assert str(error)
        return
    contents = board.Contents([*others, made])
    for form in board.FORMS.values():
        form(contents).encode()


def test_the_tasks_that_are_built_in_are_none_of_the_spoiled() -> None:
    assert TASK["name"] not in TASKS and os.environ.get("BENCH_DATA") != ""
