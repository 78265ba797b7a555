"""A dataset on the Hugging Face hub, at one commit.

A revision is resolved to a commit once. What the cache of `datasets` has at that commit is read from there, without
a word to the network; what it has not is fetched, once.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.settings import InputError, Problem, shown, unknown
from bench.data.tasks import Hub, Task

if TYPE_CHECKING:  # imported where it is used: it takes a second
    import datasets

SECONDS = 10  # to wait for the hub's first answer, while data are read and no rank waits
COMMIT = re.compile(r"[0-9a-f]{40}")
_resolved: dict[str, str] = {}  # in this process: owner/name@revision -> commit


@dataclass(frozen=True)
class Address:
    task: Task
    hub: Hub
    instead: str  # the files that a user may put into a folder instead

    @property
    def name(self) -> str:
        return f"{self.hub.path} {self.hub.config}" if self.hub.config else self.hub.path

    @property
    def revision(self) -> str:
        return self.hub.revision or "main"

    def error(self, place: str, message: str) -> InputError:
        return InputError(f"task {self.task.name}", [Problem(place, message)])


def resolved() -> dict[str, str]:
    """The commits that this process has found where a task names none, for `use` in others."""
    return dict(_resolved)


def use(commits: Mapping[str, str]) -> None:
    """Has this process read what another one has found: ranks read what their launcher did."""
    _resolved.update(commits)


def build(address: Address) -> tuple[datasets.DatasetBuilder, str]:
    """What gives the splits, and its commit.

    InputError says in one line what is not there or not in reach, and what to do.
    """
    commit = _commit(address)
    return _cached(address, commit) or _fetched(address, commit), commit


# which commit


def _commit(address: Address) -> str:
    if COMMIT.fullmatch(address.revision):
        return address.revision
    key = f"{address.hub.path}@{address.revision}"
    if key not in _resolved:
        _resolved[key] = _resolve(address)
    return _resolved[key]


def _resolve(address: Address) -> str:
    """The commit of a branch or tag: the hub's answer, and without a network what it was at the last time."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    path, revision = address.hub.path, address.revision
    try:
        commit = _ask(address)
    except _NoAnswer as error:
        folder = repo_folder_name(repo_id=path, repo_type="dataset")
        remembered = Path(constants.HF_HUB_CACHE, folder, "refs", revision)
        if not remembered.is_file():
            raise _out_of_reach(address, error) from error
        return remembered.read_text("utf-8").strip()
    with contextlib.suppress(Exception):  # it puts into the cache what the branch or tag is, which serves offline only
        hf_hub_download(path, "README.md", repo_type="dataset", revision=revision)
    return commit


class _NoAnswer(Exception):
    """The hub could not be asked."""


def _ask(address: Address) -> str:
    """The commit of the revision. InputError when the hub has no such dataset or revision."""
    from datasets import config
    from huggingface_hub import HfApi, errors

    if config.HF_HUB_OFFLINE:
        raise _NoAnswer("offline mode is on")
    path, revision, api = address.hub.path, address.revision, HfApi()
    try:
        found = api.dataset_info(path, revision=revision, timeout=SECONDS)
    except errors.RevisionNotFoundError as error:
        refs = api.list_repo_refs(path, repo_type="dataset")
        names = ", ".join(ref.name for ref in (*refs.branches, *refs.tags))
        message = f"found {revision}, which {path} does not have: expected a commit of it, or one of {names}"
        raise address.error("hub.revision", message) from error
    except errors.GatedRepoError as error:
        message = f"{path} is open to those only who have asked for it: ask on its page, and set HF_TOKEN"
        raise address.error("hub.path", message) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        message = f"found {shown(path)}, which is not on the hub, or is private: expected owner/name of a dataset"
        raise address.error("hub.path", message) from error
    except Exception as error:  # of the library below, which has changed twice
        raise _NoAnswer(_line(error)) from error
    assert found.sha is not None
    return found.sha


def _out_of_reach(address: Address, error: Exception) -> InputError:
    from huggingface_hub import constants

    message = (
        f"{address.name} at revision {address.revision} is not in the cache and could not be reached ({error}): "
        f"set BENCH_DATA to a folder that has {address.instead}, or run once where {constants.ENDPOINT} can be "
        f"reached, with the same HF_HOME (here {constants.HF_HOME}), or set HF_ENDPOINT to a mirror"
    )
    return address.error("hub", message)


def _line(error: Exception) -> str:
    """The kind of an error, and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


# what is there


def _cached(address: Address, commit: str) -> datasets.DatasetBuilder | None:
    """What the cache has at exactly this commit. Offline `datasets` itself would take the newest it has."""
    from datasets import config
    from datasets.naming import camelcase_to_snakecase
    from datasets.packaged_modules.cache.cache import Cache

    *owner, name = address.hub.path.split("/")
    root = Path(config.HF_DATASETS_CACHE, "___".join([*owner, camelcase_to_snakecase(name)]))
    found = [folder for folder in root.glob(f"{address.hub.config or '*'}/*/{commit}") if folder.is_dir()]
    if len(found) != 1:  # without a config's name the hub says whether there is but one
        return None
    config_name, version, _ = found[0].parts[-3:]
    return Cache(repo_id=address.hub.path, dataset_name=name, config_name=config_name, version=version, hash=commit)


def _fetched(address: Address, commit: str) -> datasets.DatasetBuilder:
    import datasets

    path, config = address.hub.path, address.hub.config
    try:
        _ask(address)  # answers, or fails, at once, where `datasets` would try for minutes
    except _NoAnswer as error:
        raise _out_of_reach(address, error) from error
    try:
        builder = datasets.load_dataset_builder(path, config, revision=commit)
        if builder.hash != commit:  # it takes what its cache has when anything goes wrong
            raise ConnectionError(f"found {builder.hash} in its place")
        builder.download_and_prepare()
    except ValueError as error:
        names = datasets.get_dataset_config_names(path, revision=commit)
        if config in names:
            raise address.error("hub", f"{address.name} @{commit} cannot be read: {_line(error)}") from error
        raise address.error("hub.config", f"{path} @{commit}: {unknown(config, names)}") from error
    except Exception as error:  # of whatever `datasets` is made of: all of it is about what it reads
        raise address.error("hub", f"{address.name} @{commit} cannot be read: {_line(error)}") from error
    return builder
