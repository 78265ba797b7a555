"""A backbone built and filled tensor by tensor, so that no rank ever holds the whole of it.

transformers 5.23 has a way of its own under ZeRO-3. It reads the whole state dict on rank 0 before it fills anything
(367 MiB of tensors at once for a model of 242 MiB on two ranks), gives missing weights random values in silence, and
compares partitioned tied weights by their empty placeholders. What it knows of keys is used here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key
from transformers.initialization import no_init_weights
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, get_checkpoint_shard_files
from transformers.utils.loading_report import LoadStateDictInfo, log_state_dict_report

from bench.models.stack.gathering import whole


class Partitioning(Protocol):
    """What partitions parameters over the ranks."""

    dtype: torch.dtype

    def building(self) -> AbstractContextManager[Any]:
        """Inside, a module's parameters are partitioned as soon as its constructor ends."""
        ...

    def fill(self, parameter: nn.Parameter, read: Callable[[], Tensor]) -> None:
        """Gives `parameter` the values that `read` gives; not every rank reads."""
        ...

    def start(self, parameters: list[nn.Parameter], write: Callable[[], None]) -> None:
        """Has `write` give all of `parameters` their values; not every rank does."""
        ...


def load_partitioned(
    auto: Any, config: Any, location: str, revision: str, partitioning: Partitioning, **options: Any
) -> tuple[Any, set[str]]:
    """As `auto.from_pretrained`: the model, and the names of the weights that the checkpoint lacks."""
    files = checkpoint_files(location, revision)
    with no_init_weights(), partitioning.building():
        model = auto.from_config(config, dtype=partitioning.dtype, **options)
    info = _fill(model, files, partitioning)
    _tie(model, info.missing_keys)
    model._adjust_missing_and_unexpected_keys(info)
    log_state_dict_report(model, location, ignore_mismatched_sizes=False, loading_info=info)
    return model, info.missing_keys


def checkpoint_files(location: str, revision: str) -> list[str]:
    """The safetensors files of a checkpoint, downloaded if they must be. OSError says what is not there."""
    single = cached_file(location, SAFE_WEIGHTS_NAME, revision=revision, _raise_exceptions_for_missing_entries=False)
    if single is not None:
        return [single]
    index: Any = cached_file(location, SAFE_WEIGHTS_INDEX_NAME, revision=revision)
    files: Any = get_checkpoint_shard_files(location, index, revision=revision)[0]
    return files


def _fill(model: Any, files: list[str], partitioning: Partitioning) -> LoadStateDictInfo:
    """Copies what the files have of the model, one tensor after the other; tells what did not fit."""
    expected: dict[str, Tensor] = model.state_dict(keep_vars=True)
    info: Any = LoadStateDictInfo(set(expected), set(), set(), [], {}, set())
    target = _renaming(model, expected)
    for file, key, found in _stored(files):
        name = target(key)
        if name not in expected:
            info.unexpected_keys.add(name)
            continue
        info.missing_keys.discard(name)
        tensor, read = expected[name], partial(_read, file, key)
        shape = tuple(getattr(tensor, "ds_shape", tensor.shape))
        if found != shape:
            info.mismatched_keys.add((name, found, shape))
        elif isinstance(tensor, nn.Parameter):
            partitioning.fill(tensor, read)
        else:
            tensor.copy_(read())
    return info


def _stored(files: list[str]) -> list[tuple[str, str, tuple[int, ...]]]:
    """(file, key, shape) of every tensor in the files, in the same order on every rank."""
    stored: list[tuple[str, str, tuple[int, ...]]] = []
    for file in files:
        with safe_open(file, framework="pt") as checkpoint:
            keys: list[str] = list(checkpoint.keys())
            stored += [(file, key, tuple(checkpoint.get_slice(key).get_shape())) for key in keys]
    return stored


def _read(file: str, key: str) -> Tensor:
    """One tensor. The file is opened for it alone: what has been read of an open one stays in memory."""
    with safe_open(file, framework="pt") as checkpoint:
        return checkpoint.get_tensor(key)


def _renaming(model: Any, expected: dict[str, Tensor]) -> Callable[[str], str]:
    """The name in the model of a key in a checkpoint, as `from_pretrained` finds it."""
    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    if len(renamings) < len(mapping):  # they make one weight of several, of which a rank would hold all
        raise ValueError(
            f"backbone: the weights of a {model.config.model_type} are not stored one by one as ZeRO-3 needs"
        )

    def target(key: str) -> str:
        name = rename_source_key(key, renamings, [], model.base_model_prefix, expected)[0]
        if name not in expected and key in expected:
            return rename_source_key(key, [], [], model.base_model_prefix, expected)[0]
        return name

    return target


def _tie(model: Any, missing: set[str]) -> None:
    """Ties what the config says is tied, except where the checkpoint has both and they differ."""
    pairs: list[tuple[str, str]] = list(model.all_tied_weights_keys.items())
    read: list[nn.Parameter] = []
    if any(not {target, source} & missing for target, source in pairs):
        for target, source in pairs:  # also the biases beside them, whose lengths are compared
            read.append(model.get_parameter(source))
            read += model.get_submodule(target.rpartition(".")[0]).parameters(recurse=False)
    with whole(read):
        model.tie_weights(missing_keys=missing, recompute_mapping=False)
