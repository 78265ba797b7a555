"""The states of one cell's examples below its training, from the store; what is missing there is computed first.

Exact to rounding: the layers below a method are frozen and in eval mode, in training too. States are kept in the run's
precision, and belong to the weights, the depth and all else that changes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.core import files
from bench.data.batches import EVALUATION_BATCH, evenly
from bench.data.templates import Encoded
from bench.matrix.cell import Cell
from bench.methods.tuned_model import TunedModel
from bench.training.engine import World
from bench.training.feature_cache.store import KEY, Store, make_room
from bench.training.setup import Encodings

SHARD_BYTES = 64 * 2**20
ATTEMPTS = 3  # at having all of a cell's examples: other processes make room meanwhile
FORMAT = 1  # of what is stored: another one is another store


@dataclass(frozen=True)
class Features:
    """The states entering `depth`, of every example of a cell."""

    depth: int
    dtype: torch.dtype
    store: Store
    bytes: int  # on disk, of this cell's examples
    built: int  # examples that were not there

    def states(self, examples: Sequence[Encoded], pinned: bool = False) -> Tensor:
        """[B, T, H], 0 where there is padding; [B, 1, H] behind a last layer that was read at one position."""
        rows = [self.store.rows[key_of(example)] for example in examples]
        longest = max(map(len, rows))
        made = torch.empty(len(rows), longest, self.store.width, dtype=torch.uint8, pin_memory=pinned)
        array = made.numpy()  # whose copies start no threads
        for i, row in enumerate(rows):
            array[i, : len(row)] = row
            array[i, len(row) :] = 0
        return made.view(self.dtype)


def open_features(cell: Cell, tuned: TunedModel, encodings: Encodings, world: World) -> Features | None:
    """Of all splits; None where nothing lies below the training. A collective call.

    ValueError where they are more than may be stored, or where what is stored is not what the backbone gives.
    """
    depth = common_depth(cell, tuned)
    if not cell.feature_cache or depth <= 0:
        return None
    splits = (encodings.train, encodings.dev, encodings.test)
    wanted = {key_of(example): example for examples in splits for example in examples}
    store = Store(root() / name_of(cell, tuned, depth, world), tuned.stack.hidden * tuned.dtype.itemsize)
    building = Building(tuned, encodings, world, depth, store)
    built: int | None = None
    for _ in range(ATTEMPTS + 1):
        store.open(wanted.keys())
        missing = building.missing(wanted)
        built = len(missing) if built is None else built
        if not world.any(bool(missing)):
            building.check(min(wanted.values(), key=lambda example: len(example.ids)))
            size = sum(store.rows[key].nbytes for key in wanted)
            return Features(depth, tuned.dtype, store, size, max(world.gather(built)))
        building.build(missing, spare=next(iter(wanted.values())))
    raise RuntimeError(f"feature cache: {store.folder} loses examples as fast as they are written")


def common_depth(cell: Cell, tuned: TunedModel) -> int:
    """Below it every pass over an example is the same."""
    differs = cell.regularizer.differs_at
    return tuned.first_trainable_depth if differs is None else min(differs, tuned.first_trainable_depth)


def root() -> Path:
    return files.cache() / "features"


def key_of(example: Encoded) -> bytes:
    digest = hashlib.blake2b(example.ids.tobytes(), digest_size=KEY)
    digest.update(example.segments.tobytes())
    digest.update(example.answer.to_bytes(8, "little"))
    return digest.digest()


def name_of(cell: Cell, tuned: TunedModel, depth: int, world: World) -> str:
    """A readable part, and a hash of all that the states depend on besides the example."""
    stack = tuned.stack
    cuda = world.device.type == "cuda"
    content = {
        "format": FORMAT,
        "backbone": {name: value for name, value in cell.backbone.identity.items() if name != "name"},
        "commit": getattr(stack.config, "_commit_hash", None),  # of the hub
        "weights": None if cell.weights == "pretrained" else [cell.weights, cell.seed_of("init")],
        "depth": [depth, len(stack.layers)],
        "reads": cell.head.model_dump(exclude={"loss"}) if depth == len(stack.layers) else None,
        "precision": cell.precision,
        "attention": cell.attention,
        "compile": cell.compile,
        "device": torch.cuda.get_device_name(world.device) if cuda else world.device.type,
        "versions": [metadata.version(name) for name in ("torch", "transformers")],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return f"{cell.backbone.model_type}-{depth}-{digest}"


class Building:
    """Computes what a store lacks, by the ranks of each host together."""

    def __init__(self, tuned: TunedModel, encodings: Encodings, world: World, depth: int, store: Store):
        self.tuned, self.encodings, self.world = tuned, encodings, world
        self.depth, self.store = depth, store
        hosts = world.gather(world.host)
        self.peers = [rank for rank, host in enumerate(hosts) if host == world.host]

    def missing(self, wanted: Mapping[bytes, Encoded]) -> list[Encoded]:
        """What any rank of this host lacks: others may have written since the first of them looked."""
        every = self.world.gather(np.packbits([key not in self.store.rows for key in wanted]))
        lacks = np.unpackbits(np.bitwise_or.reduce([every[rank] for rank in self.peers]), count=len(wanted))
        return [one for one, lack in zip(wanted.values(), lacks, strict=True) if lack]

    def build(self, examples: list[Encoded], spare: Encoded) -> None:
        """Every rank makes the same number of passes, as ZeRO-3 needs: those without work take `spare`."""
        lengths = [len(example.ids) for example in examples]
        place = self.peers.index(self.world.rank)
        if place == 0:
            tokens = len(examples) if self.one_token(spare) else sum(lengths)
            make_room(self.store.folder.parent, tokens * self.store.width, self.store.in_use)
        mine = [[examples[i] for i in ids] for ids in evenly(lengths, EVALUATION_BATCH, 0, 1)[place :: len(self.peers)]]
        rows: dict[bytes, np.ndarray] = {}
        for number in range(max(self.world.gather(len(mine)))):
            if number >= len(mine):
                self.states([spare])
                continue
            rows |= dict(zip(map(key_of, mine[number]), self.states(mine[number]), strict=True))
            if sum(row.nbytes for row in rows.values()) >= SHARD_BYTES:
                self.store.write(rows)
                rows = {}
        if rows:
            self.store.write(rows)
        self.world.gather(None)  # all have written

    def one_token(self, example: Encoded) -> bool:
        """Whether the states are those behind a last layer that is read at one position."""
        batch = self.encodings.batch([example], [0], [0], self.world.device)
        position = self.tuned.head.position(self.tuned.stack, batch)
        return self.depth == len(self.tuned.stack.layers) and position is not None

    @torch.no_grad()
    def states(self, examples: list[Encoded]) -> list[np.ndarray]:
        """Of each example [T, width] uint8, or [1, width]. A collective call under ZeRO-3."""
        ids = list(range(len(examples)))
        batch = self.encodings.batch(examples, ids, ids, self.world.device)
        with self.tuned.evaluating():
            stream = self.tuned.prefix_states(batch, self.depth).stream
        assert stream.prompt_tokens == 0 and not stream.prefixes and stream.states.dtype == self.tuned.dtype
        made = stream.states.contiguous().view(torch.uint8).cpu().numpy()
        return [row[:length] for row, length in zip(made, stream.mask.sum(1).tolist(), strict=True)]

    def check(self, example: Encoded) -> None:
        """That the store holds what the backbone gives now: its name is made of less than all the weights."""
        there, here = self.store.rows[key_of(example)], self.states([example])[0]
        dtype = self.tuned.dtype
        stored, found = (torch.from_numpy(np.array(one)).view(dtype).double() for one in (there, here))
        off = (stored - found).norm() / found.norm()
        if not off < torch.finfo(dtype).eps ** 0.5:
            raise ValueError(
                f"feature cache: {self.store.folder} is off by {off:.2g}, expected what this backbone gives"
            )
