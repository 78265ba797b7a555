"""Rows from folders in three formats, and from a hub."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as arrow
import pytest
from loopback_hub import Repository, serve
from places import HELPERS
from pyarrow import parquet

from bench.core.settings import InputError
from bench.data.splits import Example, _read, read_examples
from bench.data.tasks import TASKS, Hub, Task

ROWS = [{"sentence": f'a "film", {i}\nof two lines', "label": i % 2} for i in range(6)]


def write_jsonl(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(file: Path, rows: list[dict[str, Any]]) -> None:
    quoted = [",".join('"' + str(value).replace('"', '""') + '"' for value in row.values()) for row in rows]
    file.write_text("\r\n".join([",".join(rows[0]), *quoted, ""]), newline="")


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    parquet.write_table(arrow.Table.from_pylist(rows), file)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    ".jsonl": write_jsonl,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sst2's, whole but for the file of the train split."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    made = tmp_path / "sst2"
    made.mkdir()
    write_jsonl(made / "validation.jsonl", ROWS[:2])
    return made


def fault(task: Task = TASKS["sst2"]) -> str:
    with pytest.raises(InputError) as caught:
        read_examples(task)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("labels", [(0, 1), (False, True), ("negative", "positive")], ids=str)
def test_formats_give_the_same_examples(labels: tuple[Any, ...], folder: Path) -> None:
    task = TASKS["sst2"].model_copy(update={"labels": labels})
    (folder / "validation.jsonl").unlink()
    found = {}
    for suffix, write in WRITERS.items():
        files = [folder / f"{name}{suffix}" for name in ("train", "validation")]
        for file in files:
            write(file, [row | {"label": labels[row["label"]]} for row in ROWS])
        _read.cache_clear()
        found[suffix] = read_examples(task)
        for file in files:
            file.unlink()
    assert found[".jsonl"] == found[".csv"] == found[".parquet"]
    assert [(e.texts, e.label) for e in found[".csv"].splits["train"]] == [
        ((row["sentence"],), row["label"]) for row in ROWS
    ]


def test_a_split_with_two_files_names_both(folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", ROWS)
    write_csv(folder / "train.csv", ROWS)
    assert fault() == f"{folder}: train: found train.jsonl and train.csv, expected one of them"


def test_a_missing_file_is_named(folder: Path) -> None:
    assert fault() == (
        "environment: BENCH_DATA: task sst2: expected sst2/ with train.jsonl, validation.jsonl (or .csv or .parquet), "
        f"found no train in {folder}"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "file: found no example"),
        (b"\n\n", "file: found no example"),
        (b'{"sentence": "x", "label": 0}\n{"sentence"', r"line 2: Expecting ':' delimiter at column 12"),
        (b'\n{"sentence": "x", "label": 0}\r\n[1]\r\n', r"line 3: found \[1\], expected a JSON object"),
        (b'{"sentence": "x", "label": NaN}', "line 1: found NaN, expected a number"),
        (b"[" * 100_000, "line 1: .*recursion"),
        (b'{"sentence": "x", "label": 0}\n{"sentence": "\xff"}', "line 2: found the byte 0xff at position 15, exp"),
        ('{"sentence": "x", "label": 0}'.encode("utf-16"), "line 1: found the byte 0xff at position 1, expected UTF-8"),
        (b'{"sentence": "x\\ud800", "label": 0}', "line 1: field sentence: found '.ud800', half a character"),
        (b'{"sentence": null, "label": 0}', "line 1: field sentence: found None, expected a text"),
        (b'{"sentence": ["x"], "label": 0}', r"line 1: field sentence: found \['x'\], expected a text"),
        (b'{"sentence": "x", "label": "0"}', r"line 1: field label: found '0', expected one of \[0, 1\]"),
        (b'{"sentence": "x", "label": null}', r"line 1: field label: found None, expected one of \[0, 1\]"),
    ],
)  # fmt: skip
def test_faults_of_json_lines_are_named(content: bytes, expected: str, folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=f"^{folder}/train.jsonl: {expected}"):
        read_examples(TASKS["sst2"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "file: found nothing, expected a header with sentence, label"),
        (b"sentence,label\n", "file: found no example"),
        (b"a film,0\nx,1\n", r"line 1: found \['a film', '0'\], expected a header with .*: sentence and label missing"),
        (b"sentence,label,label\nx,1,1\n", "line 1: found the column label more than once in the header"),
        (b'sentence,label\n"a\nb\nc",1\n\nx\n', "line 6: found 1 values, expected 2: sentence, label"),
        (b"sentence,label\na, b,1\n", "line 2: found 3 values, expected 2"),
        (b'sentence,label\n"a\r\nb",0\r\nx,two\n', r"line 4: field label: found 'two', expected one of \[0, 1\]"),
        (b'sentence,label\nx,1\n"never\nclosed,1\n', "line 3: unexpected end of data"),
        (b"sentence,label\nx,1\n\xe9,1\n", "line 3: found the byte 0xe9 at position 1, expected UTF-8"),
    ],
)
def test_faults_of_csv_are_named(content: bytes, expected: str, folder: Path) -> None:
    (folder / "train.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"^{folder}/train.csv: {expected}"):
        read_examples(TASKS["sst2"])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"sentence": ["x", None], "label": [0, 1]}, "row 2: field sentence: found None, expected a text"),
        ({"sentence": ["x", "y"], "label": [0.0, float("nan")]}, "row 2: field label: found nan, expected one of"),
        ({"sentence": [1.0, float("nan")], "label": [0, 1]}, "row 1: field sentence: found 1.0, expected a text"),
        ({"text": ["x"], "label": [0]}, "row 1: field sentence is missing, found text, label"),
        ({"sentence": [], "label": []}, "file: found no example"),
    ],
)
def test_faults_of_parquet_are_named(columns: dict[str, list[Any]], expected: str, folder: Path) -> None:
    parquet.write_table(arrow.table(columns), folder / "train.parquet")
    with pytest.raises(InputError, match=f"^{folder}/train.parquet: {expected}"):
        read_examples(TASKS["sst2"])


def test_broken_parquet_is_named(folder: Path) -> None:
    file = folder / "train.parquet"
    write_parquet(file, ROWS)
    whole = file.read_bytes()
    for content in (
        b"",
        b"PAR1",
        b"sentence,label\n",
        whole[:-9],
        whole[:4] + b"\xff" * (len(whole) // 2) + whole[len(whole) // 2 + 4 :],
    ):
        file.write_bytes(content)
        assert fault().startswith(f"{file}: file: ") and "expected a whole Parquet file" in fault()
    twice = arrow.Table.from_arrays(
        [arrow.array(["x"]), arrow.array([0]), arrow.array([1])], ["sentence", "label", "label"]
    )
    parquet.write_table(twice, file)
    assert fault() == f"{file}: file: found the column label more than once"


def test_a_byte_order_mark_is_no_text(folder: Path) -> None:
    (folder / "train.csv").write_bytes(b"\xef\xbb\xbfsentence,label\nx,1\n")
    (folder / "validation.jsonl").write_bytes(b'\xef\xbb\xbf{"sentence": "x", "label": 1}\n')
    found = read_examples(TASKS["sst2"]).splits
    assert found["train"] == found["test"] == [Example(("x",), 1)]


@pytest.mark.parametrize(
    ("hub", "expected"),
    [
        (Hub(path="a/b", labels=(1,)), r"hub.labels: found \[1\], expected theirs for each"),
        (Hub(path="a/b", splits={"test": ("m", "mm")}), "hub.splits: found test: m, mm, expected one name of theirs"),
        (Hub(path="a/b", splits={"dev": ("d",)}), "hub.splits: found dev: d, expected one of"),
        (None, "source: found hub, expected also"),
    ],
)
def test_what_does_not_fit_a_tasks_hub_is_said_with_the_task(hub: Hub | None, expected: str) -> None:
    fields = TASKS["sst2"].model_dump() | {"hub": hub, "source": "hub"}
    with pytest.raises(ValueError, match=expected):
        Task.model_validate(fields)


# the hub

FIRST, SECOND = "a1" * 20, "b2" * 20
CARD = """---
configs:
- config_name: films
  data_files:
  - {split: train, path: films/train-*}
  - {split: validation, path: films/validation-*}
  - {split: other, path: films/other-*}
- config_name: empty
  data_files:
  - {split: train, path: films/other-*}
---
"""


def table(labels: list[int], names: list[str], text: str = "text") -> bytes:
    features = datasets.Features({text: datasets.Value("string"), "grade": datasets.ClassLabel(names=names)})
    columns = {text: [f"film {i}" for i in range(len(labels))], "grade": labels}
    file = io.BytesIO()
    datasets.Dataset.from_dict(columns, features=features).to_parquet(file)
    return file.getvalue()


def films(names: list[str], train: list[int]) -> dict[str, bytes]:
    parts = {"train": train, "validation": [1, 0], "other": [0, -1]}
    files = {f"films/{name}-00000-of-00001.parquet": table(labels, names) for name, labels in parts.items()}
    return {"README.md": CARD.encode(), **files}


@pytest.fixture(scope="module")
def repositories() -> dict[str, Repository]:
    datasets.disable_progress_bars()
    plain = {f"default/{name}/0000.parquet": table([0, 1], ["no", "yes"]) for name in ("train", "validation")}
    return {
        "someone/MovieGrades": Repository(
            {FIRST: films(["bad", "good"], [0, 1, 1]), SECOND: films(["bad", "good"], [1, 0, 0, 0])}, {"main": FIRST}
        ),
        "someone/converted": Repository({FIRST: plain}, {"main": FIRST, "refs/convert/parquet": FIRST}),
        "someone/script": Repository({FIRST: {"script.py": b"import os"}}, {"main": FIRST}),
    }


FIELDS = {"sentence": "text", "label": "grade"}
MOVIES = {"path": "someone/MovieGrades", "config": "films", "fields": FIELDS}


def outcomes(home: Path, endpoint: str, *cases: dict[str, Any], **variables: str) -> list[dict[str, Any]]:
    """What each case gives, in a process of its own with this HF_HOME."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "BENCH_DATA"))}
    environment = {**kept, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, **variables}
    script = HELPERS / "hub_script.py"
    command = [sys.executable, str(script), json.dumps(cases)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("OUTCOME")]


@pytest.mark.parametrize("variables", [{}, pytest.param({"HF_HUB_OFFLINE": "1"}, marks=pytest.mark.full)])
def test_the_hub_is_read_once_and_then_offline(
    variables: dict[str, str], tmp_path: Path, repositories: dict[str, Repository]
) -> None:
    unpinned, pinned = {"hub": MOVIES}, {"hub": MOVIES | {"revision": FIRST}}
    moved = repositories["someone/MovieGrades"]
    with serve(repositories) as hub:
        (found,) = outcomes(tmp_path, hub.endpoint, unpinned)
        assert found["origin"] == f"hub someone/MovieGrades films @{FIRST}"
        assert found["train"] == [["film 0", 0], ["film 1", 1], ["film 2", 1]]
        assert found["test"] == [["film 0", 1], ["film 1", 0]]
        assert found["commits"] == {"someone/MovieGrades@main": FIRST}

        hub.asked.clear()
        moved.refs["main"] = SECOND
        same, told = outcomes(tmp_path, hub.endpoint, pinned, unpinned | {"commits": found["commits"]})
        assert same == found | {"commits": {}} and told == found
        assert not [asked for asked in hub.asked if "MovieGrades" in asked], "what is in the cache is read from there"

        (new,) = outcomes(tmp_path, hub.endpoint, unpinned)
        assert new["origin"].endswith(f"@{SECOND}") and len(new["train"]) == 4 and new["hash"] != found["hash"]

    again, old = outcomes(tmp_path, hub.endpoint, unpinned, pinned, **variables)
    assert again == new and old["hash"] == found["hash"] and old["origin"] == found["origin"]
    moved.refs["main"] = FIRST


Answers = dict[str, list[dict[str, Any]]]
LABELS = [
    {"hub": MOVIES, "labels": ["good", "bad"]},  # by name
    {"hub": MOVIES | {"labels": ["good", "bad"]}},  # theirs in our order
    {"hub": MOVIES | {"labels": [1, 0]}},
    {"hub": MOVIES | {"splits": {"test": ["validation", "train"]}}, "test": ["matched", "mismatched"]},
    {"hub": {"path": "someone/converted", "fields": FIELDS, "revision": "refs/convert/parquet"}},
    {"hub": MOVIES, "labels": ["good", "worse"]},
    {"hub": MOVIES | {"labels": ["fine", "good"]}},
    {"hub": MOVIES | {"splits": {"test": ["other"]}}},
]
AT, FILMS = f"someone/MovieGrades @{FIRST}", "someone/MovieGrades films"
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"path": "someone/MovieGrade"}, "hub.path: found 'someone/MovieGrade', which is not on the hub"),
    ({"path": "one/two/three"}, "hub.path: found 'one/two/three', which is not on the hub"),
    (MOVIES | {"config": "film"}, f"hub.config: {AT}: found 'film', expected one of empty, films (did you mean"),
    (MOVIES | {"config": None}, f"hub.config: {AT}: found None, expected one of empty, films"),
    (
        MOVIES | {"splits": {"test": ["test"]}},
        f"hub.splits: {FILMS}: found 'test', expected one of other, train, v",
    ),
    (MOVIES | {"fields": {"sentence": "txt"}}, f"hub.fields.sentence: {FILMS} train: found 'txt', expected one of"),
    (MOVIES | {"revision": "v2"}, "hub.revision: found v2, which someone/MovieGrades does not have: expected a "),
    (MOVIES | {"revision": "c" * 40}, f"hub.revision: found {'c' * 40}, which someone/MovieGrades does not have"),
    ({"path": "someone/script"}, f"hub: someone/script @{FIRST} cannot be read: RuntimeError: Dataset scripts are"),
]


def folders(parent: Path) -> list[dict[str, Any]]:
    """Cases for `source: auto` where a folder has no file, half of them, or all; then two with another source."""
    for name in ("none", "half", "whole"):
        (parent / name / "films").mkdir(parents=True)
    for name in ("half", "whole"):
        write_jsonl(parent / name / "films" / "train.jsonl", ROWS)
    write_csv(parent / "whole" / "films" / "validation.csv", ROWS)
    case = {"hub": MOVIES, "source": "auto"}
    cases = [case | {"data": str(parent / name)} for name in ("none", "half", "whole")]
    return [*cases, cases[-1] | {"source": "hub"}, case | {"source": "folder"}]


@pytest.fixture(scope="module")
def answers(repositories: dict[str, Repository], tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """One process gives the outcomes of all these cases. Faults come first, while the cache is empty."""
    parent = tmp_path_factory.mktemp("hub")
    cases = {"faults": [{"hub": address} for address, _ in FAULTS], "labels": LABELS, "auto": folders(parent)}
    with serve(repositories) as hub:
        found = iter(outcomes(parent / "home", hub.endpoint, *(case for several in cases.values() for case in several)))
    return {name: list(itertools.islice(found, len(several))) for name, several in cases.items()}


def test_labels_and_splits_of_theirs_become_ours(answers: Answers) -> None:
    named, ordered, numbered, several, converted, *errors = answers["labels"]
    swapped = [["film 0", 1], ["film 1", 0], ["film 2", 0]]
    assert named["train"] == ordered["train"] == numbered["train"] == swapped
    assert several["parts"] == {"matched": 2, "mismatched": 3}
    assert converted["origin"] == f"hub someone/converted @{FIRST}" and converted["test"] == [
        ["film 0", 0],
        ["film 1", 1],
    ]
    where = "hub someone/MovieGrades films"
    assert [error["error"] for error in errors] == [
        f"{where} train: row 1: field label: found 'bad', expected one of ['good', 'worse']",
        f"{where} train: row 1: field label: found 'bad', expected one of ['fine', 'good']",
        f"{where} other: row 2: field label: found -1, expected one of [0, 1]",
    ]


def test_what_the_hub_has_not_is_said_with_what_it_has(answers: Answers) -> None:
    for (_, expected), outcome in zip(FAULTS, answers["faults"], strict=True):
        assert outcome["error"].startswith(f"task films: {expected}"), outcome
        assert "\n" not in outcome["error"]


def test_auto_takes_the_folder_where_there_is_one_and_else_the_hub(answers: Answers) -> None:
    none, half, whole, forced, other = answers["auto"]
    assert "found no validation in" in half["error"]
    assert none["origin"] == forced["origin"] == f"hub someone/MovieGrades films @{FIRST}"
    assert whole["origin"] == "folder films" and len(whole["test"]) == 6
    assert other["error"].startswith("environment: BENCH_DATA: is not set: task films expects films/ with train.jsonl")


def test_without_network_and_cache_one_line_says_what_to_do(
    tmp_path: Path, repositories: dict[str, Repository]
) -> None:
    home = tmp_path / "home"
    pinned = MOVIES | {"revision": SECOND}
    with serve(repositories) as hub:
        outcomes(home, hub.endpoint, {"hub": MOVIES | {"revision": FIRST}})
    found = outcomes(home, hub.endpoint, {"hub": MOVIES}, {"hub": pinned})
    for outcome, revision in zip(found, ("main", SECOND), strict=True):
        assert outcome["error"].startswith(
            f"task films: hub: someone/MovieGrades films at revision {revision} is not in the cache and could not be "
            "reached (ConnectError: "
        ), "another commit in the cache does not do"
        assert outcome["error"].endswith(
            "set BENCH_DATA to a folder that has films/ with train.jsonl, validation.jsonl (or .csv or .parquet), or "
            f"run once where {hub.endpoint} can be reached, with the same HF_HOME (here {home}), or set HF_ENDPOINT to "
            "a mirror"
        )


def test_the_command_starts_without_datasets() -> None:
    wanted = "[m for m in ('datasets', 'huggingface_hub') if m in sys.modules]"
    script = f"import sys, bench.cli.main, bench.data.sources; print({wanted})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "datasets" not in done.stdout
