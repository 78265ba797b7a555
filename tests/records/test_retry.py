"""What `--retry` takes away, also while another run does the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_records import record

from bench.records import retry, store


def test_records_are_forgotten_by_status(tmp_path: Path) -> None:
    for one in (record("fine"), record("failed", test=None), record("other", test=None)):
        store.write(tmp_path, one)
    assert retry.forget(tmp_path, {"fine", "failed"}, ["failed"]) == []
    assert store.recorded(tmp_path) == {"fine", "other"}


def test_what_another_run_took_away_or_made_anew_meanwhile_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of records is older than they are."""
    for name in ("gone", "anew"):
        store.write(tmp_path, record(name, test=None))
    listed = store.recorded

    def then(results: Path) -> set[str]:
        found = listed(results)
        for name in found:
            store.path(results, name).unlink()
        store.write(results, record("anew"))
        return found

    monkeypatch.setattr(store, "recorded", then)
    retry.forget(tmp_path, {"gone", "anew"}, ["failed"])
    monkeypatch.undo()
    assert [one.status for one in store.read_all(tmp_path).records] == ["ok"]
