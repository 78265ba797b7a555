"""States on disk: one folder per backbone and depth, in it immutable shards whose states are mapped into memory.

A shard is a safetensors file of `keys` [N, 16], `offsets` [N + 1] and `states` [tokens, bytes of a state], all of them
unpadded. It is written beside and moved to its place as a whole, so that any number of processes may read and write at
once: two that write the same example do no harm, and a shard may be removed while others have it mapped.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bench.core import files
from bench.core.settings import InputError, Problem, shown

KEY = 16  # bytes
LIMIT = "BENCH_FEATURE_CACHE_GIB"
DEFAULT_GIB = 50.0
ABANDONED = 3600  # seconds after which a file that was never moved to its place is nobody's


class Shard(NamedTuple):
    keys: np.ndarray  # [N, KEY] uint8
    offsets: np.ndarray  # [N + 1] int64
    states: np.ndarray  # [tokens, width] uint8, mapped


class Store:
    """The states in one folder, by the key of their example; a state is `width` bytes."""

    def __init__(self, folder: Path, width: int):
        self.folder, self.width = folder, width
        self.rows: dict[bytes, np.ndarray] = {}  # [tokens of the example, width] uint8
        self.in_use: set[Path] = set()
        self._seen: set[Path] = set()

    def open(self, wanted: Collection[bytes]) -> None:
        """Maps what the folder has of `wanted` by now. A torn or foreign file is left out."""
        for file in sorted(set(self.folder.glob("*.safetensors")) - self._seen):
            self._seen.add(file)
            shard = read(file, self.folder.name, self.width)
            if shard is None:
                continue
            keys = [bytes(key) for key in shard.keys]
            mine = [i for i, key in enumerate(keys) if key in wanted and key not in self.rows]
            for i in mine:
                self.rows[keys[i]] = shard.states[shard.offsets[i] : shard.offsets[i + 1]]
            if mine:
                self.in_use.add(file)
                with contextlib.suppress(OSError):  # removed by now, or another user's
                    os.utime(file)

    def write(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """A new shard of each example's [tokens, width] uint8."""
        content = {
            "keys": np.frombuffer(b"".join(rows), np.uint8).reshape(-1, KEY),
            "offsets": np.cumsum([0, *map(len, rows.values())], dtype=np.int64),
            "states": np.concatenate(list(rows.values())),
        }
        files.write(self.folder / f"{uuid.uuid4().hex}.safetensors", save(content, {"store": self.folder.name}))


def read(file: Path, store: str, width: int) -> Shard | None:
    """None where `file` is torn, or no shard of `store`."""
    try:
        with safe_open(file, "numpy") as content:  # fails where the file is longer or shorter than it says
            keys, offsets = content.get_tensor("keys"), content.get_tensor("offsets")
            shape = tuple(content.get_slice("states").get_shape())
            named = (content.metadata() or {}).get("store")
        if named != store or not _fit(keys, offsets, shape, width):
            return None
        states = np.memmap(file, np.uint8, "r", _begin(file), shape)
    except (SafetensorError, OSError, ValueError, KeyError):
        return None
    return Shard(keys, offsets, states.view(np.ndarray))


def _fit(keys: np.ndarray, offsets: np.ndarray, shape: tuple[int, ...], width: int) -> bool:
    return (
        (keys.dtype, offsets.dtype) == (np.uint8, np.int64)
        and keys.shape == (len(offsets) - 1, KEY)
        and bool((np.diff(offsets, prepend=0) >= 0).all())
        and shape == (offsets[-1], width)
    )


def _begin(file: Path) -> int:
    """Where the states lie in a safetensors file: 8 bytes with the length of its header, the header, the tensors."""
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        return 8 + length + json.loads(content.read(length))["states"]["data_offsets"][0]


def limit() -> int:
    """Bytes that all stores together may have. InputError where the variable is no number."""
    given = os.environ.get(LIMIT, str(DEFAULT_GIB))
    try:
        found = float(given)
        if not 0 <= found < float("inf"):
            raise ValueError
    except ValueError:
        raise InputError("environment", [Problem(LIMIT, f"found {shown(given)}, expected a number of GiB")]) from None
    return int(found * 2**30)


def make_room(root: Path, needed: int, keep: Collection[Path]) -> None:
    """Removes shards of any store below `root`, least recently used first, until `needed` bytes fit beside the rest.

    ValueError where they do not fit beside those to `keep`.
    """
    allowed = limit()
    shards = sorted((stat.st_mtime, stat.st_size, file) for file, stat in _files(root))
    kept = sum(size for _, size, file in shards if file in keep)
    if kept + needed > allowed:
        raise ValueError(
            f"feature cache: the cell needs {(kept + needed) / 2**30:.3g} GiB, and {LIMIT} allows {allowed / 2**30:.3g}"
        )
    total = sum(size for _, size, _ in shards)
    for used, size, file in shards:
        whole = file.suffix == ".safetensors" and not file.name.startswith(".")
        unfinished = not whole and time.time() - used < ABANDONED
        if file in keep or unfinished or (whole and total + needed <= allowed):
            continue
        file.unlink(missing_ok=True)
        total -= size


def _files(root: Path) -> list[tuple[Path, os.stat_result]]:
    found: list[tuple[Path, os.stat_result]] = []
    for file in root.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # another process makes room, too
            found.append((file, file.stat()))
    return found
