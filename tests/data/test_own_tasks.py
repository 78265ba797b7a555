"""Tasks of a matrix's own: known ones with something changed, files, and what installed packages add."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finished import TASK, Finished, write_task
from runs import call
from tiny_tokenizers import tiny_tokenizer

from bench.cli.listing import listing
from bench.core.settings import InputError, Problem
from bench.data import tasks
from bench.data.splits import split
from bench.data.tasks import Regime, Task, parse_task
from bench.data.templates import Templater
from bench.matrix.matrix import load as matrix_of
from bench.runner.preconditions import check_answer_words

CODE = """
from bench.data.tasks import Task
one = Task(name="packaged", folder="mine", form="somebody.rows:lower", fields=("text",), labels=("bad", "good"),
           words=("bad", "great"), masked="{text} : {mask}", causal="{text} :")
several = [one.model_copy(update={"name": name}) for name in ("second", "third")]
taken = one.model_copy(update={"name": "sst2"})
nothing = 3
def lower(row):
    return [{**row, "text": row["text"].lower()}]
"""


def parsed(value: object) -> Task:
    problems: list[Problem] = []
    task = parse_task(value, "axes.task", problems)
    assert task is not None, problems
    return task


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task in a file whose words the built-in language has, and its data; the folder of both."""
    write_task(tmp_path)
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    return tmp_path


Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A package with one entry point of this value."""
    site = tmp_path / "site"
    (site / "somebody").mkdir(parents=True)
    (site / "somebody" / "__init__.py").write_text("")
    (site / "somebody" / "rows.py").write_text(CODE)
    (site / "somebody-1.0.dist-info").mkdir()
    (site / "somebody-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(site)

    def with_entry(value: str) -> None:
        (site / "somebody-1.0.dist-info" / "entry_points.txt").write_text(f"[promptzero.tasks]\nmine = {value}\n")
        importlib.invalidate_caches()
        tasks.tasks.cache_clear()

    yield with_entry
    tasks.tasks.cache_clear()
    for name in ("somebody", "somebody.rows"):
        sys.modules.pop(name, None)


def test_a_known_task_may_be_changed() -> None:
    changed = parsed({"name": "sst2", "words": ["bad", "good"], "masked": "{sentence} was {mask}"})
    assert changed.words == ("bad", "good") and changed.splits == parsed("sst2").splits
    assert tasks.label(changed) == "sst2 words=('bad', 'good') masked={sentence} was {mask}"
    assert tasks.label(parsed({"name": "sst2"})) == "sst2"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("sst", "axes.task: found 'sst', expected one of .*did you mean sst2"),
        (3, "axes.task: found 3, expected one of .*, {name: one of them, with what changes} or {path: a task's YAML}"),
        ({"words": ["a", "b"]}, "axes.task: found {'words': .*, expected one of"),
        ({"name": "sst2", "maskd": ""}, "axes.task.maskd: unknown key: .*did you mean masked"),
        ({"name": "sst2", "words": [False, "b"]}, r"axes.task.words\[0\]: found False, .*put quotes around them"),
        ({"name": "sst2", "words": ["a"]}, "axes.task.words: found \\['a'\\], expected one for each of the labels"),
        ({"name": "sst2", "masked": "{text} {mask}"}, "axes.task.masked: found {text} in .*, expected only mask, sent"),
        ({"name": "sst2", "fixed": ["word"]}, r"axes.task.fixed: found word, expected some of \['sentence'\]"),
        (
            {"name": "sst2", "causal": "It was"},
            "axes.task.causal: found 'It was', expected at least one field in braces",
        ),
        ({"name": "sst2", "causal": "{sentence!r} It"}, "axes.task.causal: found .*, expected names alone in braces"),
        ({"name": "sst2", "metrics": []}, r"axes.task.metrics: found \[\], expected some of accuracy, f1, macro_f1"),
        ({"name": "trec", "metrics": ["f1"]}, "axes.task.metrics: found f1 with 6 labels, expected macro_f1"),
        (
            {"name": "trec", "hub": {"path": "a/b", "labels": ["x"]}},
            r"axes.task.hub.labels: found \['x'\], expected theirs",
        ),
        (
            {"name": "sst2", "splits": {"train": ["train"], "dev": ["test"], "test": ["test"]}},
            "axes.task.splits: found test twice, expected each file in one place only",
        ),
        (
            {"name": "sst2", "splits": {"train": ["train"], "test": []}},
            "axes.task.splits: found nothing for test, expected the names of its files",
        ),
        (
            {"name": "sst2", "source": "built-in"},
            "axes.task.source: found built-in, which only the tasks of the built-in",
        ),
        ({"path": "nowhere.yaml"}, "axes.task.path: nowhere.yaml: YAML: .*No such file"),
        ({"path": 3}, "axes.task.path: found 3, expected a file"),
        ({"path": "a.yaml", "words": []}, "axes.task.words: unknown key: expected path alone"),
    ],
)
def test_faults_of_a_task_are_named(value: object, expected: str) -> None:
    problems: list[Problem] = []
    assert parse_task(value, "axes.task", problems) is None or problems
    with pytest.raises(InputError, match=expected):
        raise InputError("m.yaml", problems)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("name: mine", "name: mine\nname: yours"), "YAML: 'name' is given twice"),
        (("name: mine", "name: sst2"), "name: found sst2, which there is already: .*{name: sst2, with what changes}"),
        (("name: mine", "name: my own"), "name: found 'my own', expected letters, digits, - and _ only"),
        (("name: mine\n", ""), "name: missing, expected a value"),
        (("labels: [bad, good]\n", ""), "labels: missing, expected a value"),
        (("metrics: [accuracy", "metrics: [acuracy"), "metrics: found .*acuracy.*, expected some of accuracy"),
        (("fields:", "feilds:"), "feilds: unknown key: .*did you mean fields"),
        (("{mask}", "mask"), "masked: found '{text} answer: mask', expected {mask} in it once"),
    ],
)
def test_faults_of_a_file_are_named(change: tuple[str, str], expected: str, own: Path) -> None:
    file = own / "my_task.yaml"
    file.write_text(file.read_text().replace(*change))
    problems: list[Problem] = []
    assert parse_task({"path": str(file)}, "axes.task", problems) is None
    with pytest.raises(InputError, match=f"m.yaml: axes.task.path: {file}: {expected}"):
        raise InputError("m.yaml", problems)


def test_a_file_is_found_by_a_variable_and_from_the_current_folder(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = parsed({"path": "$BENCH_DATA/my_task.yaml"})
    assert task.folder == tasks.label(task) == "mine" and task.metric == "accuracy and macro_f1"
    monkeypatch.chdir(own)
    assert parsed({"path": "./my_task.yaml"}) == task


def test_a_package_adds_tasks(own: Path, install: Install) -> None:
    """Rows made by its function, through the split and the template."""
    install("somebody.rows:one")
    task = parsed("packaged")
    splits = split(task, Regime(per_class=4), 0)
    example = splits.train[0]
    assert example.texts[0] == example.texts[0].lower() and len(splits.test) == 30
    encoded = Templater(task, tiny_tokenizer("bert"), "masked", False, 64).encode(["A quiet town"], 1)
    assert tiny_tokenizer("bert").decode(encoded.ids) == "[CLS] a quiet town : [MASK] [SEP]"
    install("somebody.rows:several")
    head, rows = listing("tasks")
    assert {"second", "third", "sst2"} <= {row[head.index("name")] for row in rows}
    assert next(row for row in rows if row[0] == "third")[-1] == "$BENCH_DATA/mine"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("somebody.rows:none", "AttributeError: .*none"),
        ("somebody.missing:one", "ModuleNotFoundError: .*somebody.missing"),
        ("somebody.rows:nothing", "found 3, expected a bench.data.tasks.Task or a list of them"),
        ("somebody.rows:taken", "found a task sst2, which there is already: expected another name"),
    ],
)
def test_a_broken_package_is_named(value: str, expected: str, install: Install) -> None:
    install(value)
    assert tasks.label(parsed("sst2")) == "sst2", "what is ours needs no package"
    with pytest.raises(InputError, match=f"somebody's entry point: promptzero.tasks mine = {value}: {expected}"):
        parse_task("other", "axes.task", [])


def test_a_task_in_a_file_runs(finished: Finished) -> None:
    """From its YAML through the launcher to a record, and its score is the mean of its metrics."""
    record = finished.one(task="mine")
    assert record.status == "ok" and ".mine." in record.name, record.failure
    assert record.quality is not None and set(record.quality.scores) == {"accuracy", "macro_f1"}
    assert record.quality.test == sum(record.quality.scores.values()) / 2


def test_words_that_are_no_tokens_stop_a_run_before_it_starts(write_matrix, own: Path) -> None:
    given = {"path": str(own / "my_task.yaml")}
    file = own / "my_task.yaml"
    file.write_text(TASK.format("zqxj", "wvut"))
    matrix = write_matrix({"task": given, "seed": [0, 1]})
    done = call("run", matrix, "--results", own / "results")
    assert done.returncode == 2 and not (own / "results").exists()
    for i, word in enumerate(("zqxj", "wvut")):
        assert f"task mine: words[{i}]: '{word}', for label" in done.stderr, done.stderr
    assert done.stderr.count("words[0]") == 1 and "for the tokenizer of tiny-encoder" in done.stderr
    linear = matrix_of(str(write_matrix({"task": given, "head": "linear"}, name="linear"))).expand()
    check_answer_words(linear)
