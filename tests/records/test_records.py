"""Records are written once and whole; what is no record is named and the rest goes on."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sample_records import record

from bench.core import files
from bench.records import store


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = [record("a"), record("b", test=None)]
    for one in written:
        assert store.write(tmp_path, one)
    assert store.read_all(tmp_path).records == written
    assert store.recorded(tmp_path) == {"a", "b"}


def test_a_record_is_never_overwritten_also_when_many_write_at_once(tmp_path: Path) -> None:
    several = [record("a", test=i / 100) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        wrote = list(pool.map(lambda one: store.write(tmp_path, one), several))
    assert sum(wrote) == 1
    assert store.read_all(tmp_path).records == [several[wrote.index(True)]]
    assert os.listdir(store.folder(tmp_path)) == ["a.json"], "no temporary file stays"


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "board.md"
    files.write(file, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (files.write, files.write_once):
        with pytest.raises(OSError, match="No space left"):
            write(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["board.md"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"schema_version": 1', "no JSON"),
        (b"[]", "schema_version is missing"),
        (b'{"schema_version": 99}', "schema_version is 99, this version reads 1..1"),
        (b'{"schema_version": 1}', "name: Field required"),
        (b'{"schema_version": 1, "name": "bad", "cell": {"method": "\\ud800"}}', "surrogates not allowed"),
    ],
)
def test_what_is_no_record_is_named_and_the_rest_goes_on(tmp_path: Path, content: bytes, expected: str) -> None:
    store.write(tmp_path, record("good"))
    (store.folder(tmp_path) / "bad.json").write_bytes(content)
    reading = store.read_all(tmp_path)
    assert [one.name for one in reading.records] == ["good"]
    (line,) = reading.unreadable
    assert "bad.json: " in line and expected in line


def test_a_record_under_another_name_is_named(tmp_path: Path) -> None:
    store.write(tmp_path, record("a"))
    (store.folder(tmp_path) / "a.json").rename(store.folder(tmp_path) / "b.json")
    assert "its name is a" in store.read_all(tmp_path).unreadable[0]


def test_old_schemas_are_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    old = record().model_dump(mode="json") | {"schema_version": 0}
    old["title"] = old.pop("name")

    def rename(data: dict[str, Any]) -> dict[str, Any]:
        return {**{k: v for k, v in data.items() if k != "title"}, "name": data["title"], "schema_version": 1}

    monkeypatch.setitem(store.MIGRATIONS, 0, rename)
    assert store.parse(json.dumps(old)) == record()
