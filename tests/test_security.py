"""What comes from elsewhere runs no code, leaves no folder, reaches no shell, and tells no secret."""

from __future__ import annotations

import ast
import functools
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from finished import LEAKING, TOKEN, VARIABLES, Finished
from loopback_hub import Repository, serve
from places import ROOT
from safetensors.torch import load_file
from sample_records import record

from bench import board
from bench.cluster.launchers.base import Group
from bench.cluster.launchers.deepspeed import DeepSpeed
from bench.cluster.slots import Allocation
from bench.core import redaction
from bench.core.settings import InputError
from bench.data.templates import tokenizer
from bench.matrix import matrix
from bench.matrix.cell import Cell, slug
from bench.models.backbones import BACKBONES
from bench.models.stack.families import load
from bench.records import store
from bench.records.record import Failure
from bench.records.sample_cards import Card
from bench.training.feature_cache.store import Store
from bench.training.feature_cache.store import read as read_shard
from bench.training.setup import prepare

SOURCES = sorted((ROOT / "bench").rglob("*.py"))
Expand = Callable[..., list[Cell]]

# code in a checkpoint, and pickles


class Poison:
    """Whose pickle makes a file as it is read."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


# what else is called by these names is read by libraries of the field
PICKLES = (
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "tokenizer.pkl",
    "vocab.pkl",
    "model.pt",
)
CODE = "open({marker!r}, 'w')\nclass Evil:\n    from_pretrained = classmethod(lambda *a, **k: None)\n"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "executed"


def poisoned(marker: Path, as_zip: bool = True) -> bytes:
    """As torch saves it now, or as it did before 1.6."""
    file = marker.with_name("poison")
    torch.save({"weight": Poison(marker)}, file, _use_new_zipfile_serialization=as_zip)
    content = file.read_bytes()
    file.unlink()
    return content


@pytest.fixture
def hostile(checkpoint: Path, tmp_path: Path, marker: Path) -> Path:
    """A whole checkpoint, with everything beside it that might run."""
    folder = tmp_path / "hostile"
    shutil.copytree(checkpoint, folder)
    for name in (*PICKLES, "pytorch_model.bin", "adapter_model.bin"):
        (folder / name).write_bytes(poisoned(marker))
    for name in ("modeling_evil.py", "tokenization_evil.py", "configuration_evil.py", "sitecustomize.py", "torch.py"):
        (folder / name).write_text(CODE.format(marker=str(marker)))
    config = json.loads((folder / "config.json").read_text())
    classes = ("AutoModel", "AutoModelForMaskedLM", "AutoModelForCausalLM")
    config["auto_map"] = {"AutoConfig": "configuration_evil.Evil"} | dict.fromkeys(classes, "modeling_evil.Evil")
    (folder / "config.json").write_text(json.dumps(config))
    tokens = folder / "tokenizer_config.json"
    known = json.loads(tokens.read_text())
    known["auto_map"] = {"AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"]}
    tokens.write_text(json.dumps(known))
    return folder


def only_pickled(folder: Path, content: bytes | None = None) -> Path:
    """With its weights in pytorch_model.bin, or `content`."""
    weights = folder / "model.safetensors"
    if content is None:
        torch.save(load_file(weights), folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(content)
    weights.unlink()
    return folder


def test_the_poison_works(marker: Path) -> None:
    pickle.loads(pickle.dumps(Poison(marker))).close()
    assert marker.exists()


def test_nothing_of_a_checkpoint_runs_on_ranks(
    hostile: Path, write_matrix: Callable[..., Path], ranks: Any, marker: Path
) -> None:
    """Under each way of loading."""
    axes = {"zero": ["zero1", "zero3"], "backbone": {"path": str(hostile)}, "steps": 2}
    made = ranks.serve(write_matrix(axes))
    assert [one.status for one in made.values()] == ["ok", "ok"] and not marker.exists()


def test_a_run_starts_no_shell_and_tells_no_secret(finished: Finished) -> None:
    """Its results are in a folder that a shell would take apart, and one of its cells fails with a secret."""
    failure = finished.one(task="leaks").failure
    assert failure is not None and "401 Unauthorized for ***HF_TOKEN***" in failure.exception, failure
    assert not list(finished.folder.rglob("executed")) and not (ROOT / "executed").exists()
    assert_silent(finished.results, finished.done.stdout + finished.done.stderr, TOKEN[3:])


def assert_silent(results: Path, said: str, secret: str) -> None:
    assert secret not in said
    kept = [one for one in results.rglob("*") if one.is_file() and ".run" not in one.parts]
    assert kept and not [one for one in kept if secret in one.read_text()]
    others = [one for one in results.rglob(".run/**/*") if one.is_file() and secret in one.read_text(errors="replace")]
    assert {one.name for one in others} <= {"log"}, "but for what a process prints itself"


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_nothing_of_a_checkpoint_runs_and_secrets_stay_out(
    hostile: Path, write_matrix: Callable[..., Path], tmp_path: Path, marker: Path
) -> None:
    """A whole run under each way of loading, into a folder that a shell would take apart; somebody says yes to all."""
    results = tmp_path / 'it\'s $(touch executed); touch executed & "x" results'
    (tmp_path / "leaking.py").write_text(LEAKING)
    (tmp_path / "reviews").mkdir()
    for split in ("train", "test"):
        rows = [{"text": f"word{i}", "label": i % 2} for i in range(40)]
        (tmp_path / "reviews" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task: dict[str, Any] = {"name": "reviews", "fields": ["text"], "labels": [0, 1], "words": ["no", "yes"]}
    task |= {"masked": "{text} {mask}", "causal": "{text}", "form": "leaking:rows"}
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    leaks = {"task": {"path": str(tmp_path / "task.yaml")}, "head": "linear"}
    axes = {"zero": ["zero1", "zero3"], "backbone": {"path": str(hostile)}, "steps": 2}
    file = write_matrix(axes, include=[{**axes, "zero": "zero1", **leaks}])
    secret = {**VARIABLES, "BENCH_DATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "bench", "run", str(file), "--results", str(results)],
        input="y\n" * 100,
        capture_output=True,
        text=True,
        env={**os.environ, **secret},
        cwd=tmp_path,
        check=False,
    )
    found = {one.labels.task: one for one in store.read_all(results).records}
    assert done.returncode == 1 and found["toy-foreign-0"].status == "ok", (done.stdout[-2000:], done.stderr[-2000:])
    assert len(store.recorded(results)) == 3
    failure = found["reviews"].failure
    assert failure is not None and "401 Unauthorized for ***HF_TOKEN***" in failure.exception, failure
    assert not marker.exists() and not (tmp_path / "executed").exists() and not (ROOT / "executed").exists()
    assert_silent(results, done.stdout + done.stderr, TOKEN[3:])


def test_code_of_a_checkpoint_is_not_run_where_it_is_read(hostile: Path, expand: Expand, marker: Path) -> None:
    (cell,) = expand({"backbone": {"path": str(hostile)}})
    prepare(cell)
    tokenizer(str(hostile), None)
    assert not marker.exists()


def test_a_pickle_alone_is_refused_as_the_matrix_is_read(hostile: Path, expand: Expand, marker: Path) -> None:
    only_pickled(hostile, poisoned(marker))
    with pytest.raises(InputError, match=r"found pytorch_model.bin and no model.safetensors.*`pickle:` beside `path`"):
        expand({"backbone": {"path": str(hostile)}})
    unchecked = BACKBONES["roberta-base"].model_copy(update={"source": "folder", "location": str(hostile)})
    with pytest.raises(OSError, match="no file named model.safetensors"):
        load(unchecked, str(hostile))
    assert not marker.exists()


def test_a_pickle_is_read_for_a_reason_which_the_record_has(checkpoint: Path, tmp_path: Path, expand: Expand) -> None:
    reason = "our own training run of 2024"
    folder = only_pickled(shutil.copytree(checkpoint, tmp_path / checkpoint.name))
    (safe,), (cell,) = (
        expand({"backbone": backbone})
        for backbone in ({"path": str(checkpoint)}, {"path": str(folder), "pickle": reason})
    )
    assert cell.content()["backbone"]["pickle"] == reason and cell.name != safe.name
    assert "pickle" not in safe.content()["backbone"], "names from before there was one stay"
    expected = dict(load(safe.backbone, safe.backbone.location).named_parameters())
    found = dict(load(cell.backbone, cell.backbone.location).named_parameters())
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_pickle_that_is_read_runs_nothing_still(hostile: Path, expand: Expand, marker: Path, as_zip: bool) -> None:
    only_pickled(hostile, poisoned(marker, as_zip))
    (cell,) = expand({"backbone": {"path": str(hostile), "pickle": "somebody said it was fine"}})
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load(cell.backbone, cell.backbone.location)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("backbone", "keys", "expected"),
    [
        ({"pickle": ""}, {}, "axes.backbone.pickle: found '', expected why"),
        ({"pickle": True}, {}, "axes.backbone.pickle: found True, expected why"),
        ({"pickle": "mine"}, {"zero": "zero3"}, "found a pickle under zero3"),
        ({"trust_remote_code": True}, {}, "axes.backbone.trust_remote_code: unknown key"),
    ],
)
def test_what_may_run_code_needs_a_reason(
    checkpoint: Path, tmp_path: Path, expand: Expand, backbone: dict[str, Any], keys: dict[str, Any], expected: str
) -> None:
    folder = only_pickled(shutil.copytree(checkpoint, tmp_path / "pickled"))
    with pytest.raises(InputError) as caught:
        expand({"backbone": {"path": str(folder)} | backbone} | keys)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"attn_implementation": "somebody/kernel"}, "attn_implementation: found 'somebody/kernel'"),
        ({"_attn_implementation": "somebody/kernel@main"}, "_attn_implementation: found"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights: found 'other.safetensors'"),
        ({"model_type": "evil"}, "model_type: found 'evil'"),
    ],
)
def test_a_config_names_no_code_and_no_other_weights(
    checkpoint: Path, tmp_path: Path, expand: Expand, changes: dict[str, Any], expected: str
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "named")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError) as caught:
        expand({"backbone": {"path": str(folder)}})
    assert expected in str(caught.value)


def test_an_adapter_beside_a_checkpoint_is_refused(hostile: Path, expand: Expand) -> None:
    (hostile / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "somebody/else"}')
    with pytest.raises(InputError, match=r"found an adapter_config.json beside it"):
        expand({"backbone": {"path": str(hostile)}})


CHECK_WEIGHTS = """
import sys
from bench.matrix import matrix
from bench.runner import preconditions
from bench.core.settings import InputError
for file in sys.argv[1:]:
    try:
        preconditions.check_weights(matrix.load(file).expand())
        print("fine")
    except InputError as error:
        print(error)
"""


def test_pickles_on_the_hub_are_refused_before_anything_starts(
    write_matrix: Callable[..., Path], tmp_path: Path
) -> None:
    """In a process of its own, since HF_ENDPOINT is read when the library is imported."""
    commit = "a" * 40
    names = {"openai-community/gpt2": "model.safetensors", "facebook/opt-125m": "pytorch_model.bin"}
    hub = {
        name: Repository({commit: {"config.json": b"{}", file: b"x"}}, {"main": commit}) for name, file in names.items()
    }
    files = {
        "safe": write_matrix({"backbone": "gpt2"}, "safe"),
        "bare": write_matrix({"backbone": "opt-125m"}, "bare"),
        "reason": write_matrix({"backbone": {"name": "opt-125m", "pickle": "of Meta's own"}}, "reason"),
        "gone": write_matrix({"backbone": "gpt2-large"}, "gone"),
    }
    with serve(hub) as served:
        variables = {**os.environ, "HF_ENDPOINT": served.endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", CHECK_WEIGHTS, *map(str, files.values())]
        done = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
    said = dict(zip(files, done.stdout.splitlines(), strict=True))
    expected = "backbones: opt-125m: found no safetensors in facebook/opt-125m, expected backbone:"
    assert said.pop("bare") == f"{expected} {{name: opt-125m, pickle: why it can be trusted}}"
    assert set(said.values()) == {"fine"}, said


def test_a_poisoned_feature_cache_is_left_out(tmp_path: Path, marker: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    for name in ("a.safetensors", "b.pkl", "c.npy", "d.pt"):
        (folder / name).write_bytes(poisoned(marker))
    store = Store(folder, 8)
    store.open([b"x" * 16])
    assert not store.rows and read_shard(folder / "a.safetensors", "store", 8) is None and not marker.exists()


# what a call may not be, or not have
FORBIDDEN = {
    *("eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads", "torch.load", "joblib.load"),
    *(
        "yaml.unsafe_load",
        "yaml.full_load",
        "numpy.load",
        "np.load",
        "subprocess.getoutput",
        "shelve.open",
        "dill.load",
    ),
}
SWITCHES = {"shell", "trust_remote_code", "allow_pickle"}


@functools.cache
def calls(file: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]


def test_no_code_of_ours_runs_texts_or_reads_pickles() -> None:
    found = [
        f"{file.name}:{call.lineno}" for file in SOURCES for call in calls(file) if ast.unparse(call.func) in FORBIDDEN
    ]
    found += [
        f"{file.name}:{call.lineno} {word.arg}"
        for file in SOURCES
        for call in calls(file)
        for word in call.keywords
        if word.arg in SWITCHES and not (isinstance(word.value, ast.Constant) and word.value.value is False)
    ]
    assert not found, found


def test_every_reading_of_a_checkpoint_says_that_no_code_of_it_runs() -> None:
    for file in SOURCES:
        for call in calls(file):
            if ast.unparse(call.func).endswith(".from_pretrained"):
                assert "trust_remote_code=False" in ast.unparse(call) or "**reading" in ast.unparse(call), (
                    file,
                    call.lineno,
                )


# names

HOSTILE_NAMES = (
    "../../up",
    "/etc/passwd",
    ".",
    "..",
    "-rf",
    "a/b",
    "a\\b",
    "\u202e",
    "\u00e9" * 300,
    "x" * 5000,
    "$(x);`y`",
    "",
)


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_names_stay_in_the_results(
    name: str, checkpoint: Path, write_matrix: Callable[..., Path], tmp_path: Path
) -> None:
    """Of matrices, backbones, configurations and whatever a label is made of."""
    zero = tmp_path / "zero $(x);.. \u202e.json"
    zero.write_text("{}")
    method = {"kind": "peft", "config": {"peft_type": "LORA", "target_modules": [name or "x", "../" * 30]}}
    backbone = {"path": str(checkpoint), "name": name}
    axes = {"backbone": backbone, "zero": {"path": str(zero)}, "method": method, "seed": 2**62}
    loaded = matrix.load(str(write_matrix(axes, "named")))
    results = tmp_path / "results"
    for cell in loaded.expand():
        made = record(cell.name).model_copy(update={"labels": cell.labels(), "cell": cell.content()})
        assert store.write(results, made)
        assert [one.parent for one in results.rglob("*.json")] == [results / "records"]
    assert "/" not in slug(name) and slug(name) not in (".", "..", "")


def test_no_two_long_names_are_one(checkpoint: Path, tmp_path: Path, expand: Expand) -> None:
    """What is cut off is in the hash."""
    long = [{"path": str(checkpoint), "name": "x" * 200 + end} for end in "ab"]
    zero = tmp_path / f"{'z' * 60}.json"
    zero.write_text("{}")
    others = {
        "zero": {"path": str(zero)},
        "task": {"name": "toy-foreign-0", "masked": "{sentence} and a template of many words {mask} which is told"},
        "method": {
            "kind": "peft",
            "config": {"peft_type": "LORA", "target_modules": ["query", "key", "value", "dense"]},
        },
        "regularizer": {"kind": "attack", "steps": 3, "step_size": 1.125, "radius": 3.375, "initial": 1.125},
    }
    names = [cell.name for cell in expand({"backbone": long, "seed": [2**61, 2**61 + 1]} | others)]
    assert len(set(names)) == 4 and all(len(name) < 240 for name in names)


@pytest.mark.parametrize("name", ["../../victim", "/tmp/victim", "victim\0", "vic/tim"])
def test_a_record_or_card_is_known_by_its_files_name_alone(name: str, tmp_path: Path) -> None:
    for kind, content in (("records", record(name)), ("cards", card_named(name))):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.json").write_text(content.model_dump_json())
    assert f"its name is {name}" in store.read_all(tmp_path).unreadable[0]
    from bench.records import sample_cards

    assert f"its sample is {name}" in sample_cards.read_all(tmp_path)[1][0]


def card_named(sample: str) -> Card:
    return Card(sample=sample, task="t", regime="r", seed=0, origin="o", data="d", train=None, dev=None, classes={})


def test_boards_of_hostile_labels_write_their_own_files_only(tmp_path: Path) -> None:
    from bench.board.figures import write

    labels = dict.fromkeys(("backbone", "task", "method", "zero"), "../../../up <script>alert(1)</script> $(x)")
    made = [record(f"r{seed}", seed=seed, test=seed / 7, **labels) for seed in range(4)]
    results = tmp_path / "a" / "b" / "results"
    contents = board.Contents(made)
    written = [*board.write(contents, results), *write(contents, results / "plots")[0]]
    files = {one for one in tmp_path.rglob("*") if one.is_file()}
    assert files == set(written) and all(one.parent in (results, results / "plots") for one in files)
    assert "<script>alert" not in (results / "leaderboard.md").read_text() + (results / "index.html").read_text()


# shells


@pytest.mark.parametrize(
    "folder", ["a b", "a;b", "a$(b)", "a`b`", "a'b", 'a"b', "a|b", "a&b", "a>b", "a\nb", "a*b", "~a", "a\\b"]
)
def test_a_folder_that_a_remote_shell_would_take_apart_is_refused(folder: str, tmp_path: Path) -> None:
    """pdsh joins its words for a shell on the other side; here there is no shell, and the folder is one word."""
    work = tmp_path / folder / "group"
    place = Allocation((("one", (0, 1)), ("two", (0,))), exclusive=False)
    group = Group(place, {"one": 2, "two": 2}, work, "10.0.0.1", 29500)
    with pytest.raises(InputError, match="expected a path of letters, digits"):
        DeepSpeed().command(group)
    here = Group(Allocation((("localhost", (0,)),), exclusive=False), {"localhost": 1}, work, "127.0.0.1", 29500)
    assert DeepSpeed().command(here)[-1] == str(work)


# secrets

SECRETS = {
    "HF_TOKEN": "hf_abcdefgh",
    "AWS_SECRET_ACCESS_KEY": "secret/of+aws",
    "WANDB_API_KEY": "0123456789abcdef",
    "PGPASSWORD": "hunter2!",
    "MY_SERVICE_AUTH": "Bearer xyz",
    "SSH_PRIVATE_KEY": "-----BEGIN KEY-----",
}
PLAIN = {"TOKENIZERS_PARALLELISM": "falsehood", "GIT_AUTHOR_NAME": "somebody", "HOME": "/home/me", "SHORT_TOKEN": "abc"}


def test_values_of_secret_variables_are_named_not_told() -> None:
    text = " ".join([*SECRETS.values(), *PLAIN.values()])
    found = redaction.redacted({"a": [text, 3, None]}, SECRETS | PLAIN)
    assert found == {"a": [" ".join([*(f"***{name}***" for name in SECRETS), *PLAIN.values()]), 3, None]}
    assert redaction.redacted("http://me:secret@host:80/x https://key@host/y http://host/@z", {}) == (
        "http://***@host:80/x https://***@host/y http://host/@z"
    )


def test_of_two_secrets_the_longer_one_is_hidden_first() -> None:
    assert redaction.redacted("abcdefghij", {"A_TOKEN": "abcdef", "B_TOKEN": "abcdefghij"}) == "***B_TOKEN***"


def test_records_and_boards_tell_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    every = "\n".join(SECRETS.values())
    failure = Failure(phase="load", rank=0, host="h", exception=f"E: 401 for {every}", log=(every, f"x{every}"))
    store.write(tmp_path, record("a", test=None, failure=failure))
    good = record("b")
    assert good.quality is not None
    store.write(tmp_path, record("b", quality=good.quality.model_copy(update={"origin": f"hub {every}"})))
    board.write(board.Contents(store.read_all(tmp_path).records), tmp_path)
    written = "".join(one.read_text() for one in tmp_path.rglob("*") if one.is_file())
    assert not [name for name, value in SECRETS.items() if value in written]
    assert "***HF_TOKEN***" in written


def test_a_failure_may_hold_what_no_file_can(tmp_path: Path) -> None:
    """Half a character, as names of files that are not UTF-8 have."""
    lone = os.fsdecode(b"caf\xe9")
    failure = Failure(phase="load", rank=0, host="h", exception=f"E: {lone}", log=(lone,))
    assert store.write(tmp_path, record("a", test=None, failure=failure))
    (read,) = store.read_all(tmp_path).records
    assert read.failure is not None and read.failure.exception == "E: caf?"
