"""Batches on their way to the device, with what the feature cache has of them, made while the step before runs."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import torch

from bench.cluster.heartbeat import pulse
from bench.data import batches
from bench.data.batches import EVALUATION_BATCH
from bench.data.templates import Encoded
from bench.models.stack import Batch, CachedPrefix, Stream
from bench.training.engine import World
from bench.training.feature_cache import Features
from bench.training.setup import Encodings

AHEAD = 2  # batches that are made before they are asked for


class Request(NamedTuple):
    """The batch to make: which of `examples`, with which keys."""

    examples: Sequence[Encoded]
    ids: list[int]
    keys: list[int]


class Loaded(NamedTuple):
    batch: Batch
    cached_prefix: CachedPrefix | None = None  # what the feature cache has of it
    ready: torch.cuda.Event | None = None  # when it has arrived on a GPU


def evenly(examples: list[Encoded], world: World) -> Iterator[Request]:
    """All of `examples`, this rank's share: the same number of batches on each."""
    lengths = [len(example.ids) for example in examples]
    for ids in batches.evenly(lengths, EVALUATION_BATCH, world.rank, world.size):
        yield Request(examples, ids, keys=ids)


class Loader:
    def __init__(self, encodings: Encodings, device: torch.device, features: Features | None = None):
        self.encodings, self.device, self.features = encodings, device, features
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def ahead(self, requests: Iterable[Request]) -> Ahead:
        return Ahead(map(self.load, requests), AHEAD)

    def load(self, request: Request) -> Loaded:
        if self._copies is None:
            return self._load(request)
        torch.cuda.set_device(self.device)  # a new thread's is the first of the host
        with torch.cuda.stream(self._copies):  # beside the step that runs
            loaded = self._load(request)
        return loaded._replace(ready=self._copies.record_event())

    def _load(self, request: Request) -> Loaded:
        examples, ids, keys = request
        pinned = self.device.type == "cuda"
        batch = self.encodings.batch(examples, ids, keys, torch.device("cpu"))
        batch = (batch.pinned() if pinned else batch).to(self.device, non_blocking=pinned)
        if self.features is None:
            return Loaded(batch)
        states = self.features.states([examples[i] for i in ids], pinned).to(self.device, non_blocking=pinned)
        whole = states.shape[1] == batch.ids.shape[1]  # else the one token that the head reads, which all have
        mask = batch.text_mask if whole else batch.text_mask.new_ones(states.shape[:2])
        return Loaded(batch, CachedPrefix(self.features.depth, Stream(states, mask)))


class Ahead(Iterator[Loaded]):
    """What `made` gives, in its order, made by a thread of its own; `ahead` of them wait at most.

    Leaving it ends the thread. What raises there raises where the batch is asked for.
    """

    def __init__(self, made: Iterator[Loaded], ahead: int):
        self._made = made
        self._pool = ThreadPoolExecutor(1, "loader")
        self._futures: collections.deque[Future[Loaded | None]] = collections.deque()
        for _ in range(ahead):
            self._submit()

    def _submit(self) -> None:
        self._futures.append(self._pool.submit(next, self._made, None))

    def __next__(self) -> Loaded:
        self._submit()
        loaded = self._futures.popleft().result()
        if loaded is None:
            raise StopIteration
        pulse.count_progress()
        if loaded.ready is not None:
            _receive(loaded)
        return loaded

    def settle(self) -> None:
        """Until all that may be made ahead is."""
        wait(self._futures)

    @property
    def states(self) -> list[torch.Tensor]:
        """Those from the feature cache that wait."""
        waiting = [future.result() for future in self._futures if future.done()]
        return [one.cached_prefix.stream.states for one in waiting if one is not None and one.cached_prefix is not None]

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def _receive(loaded: Loaded) -> None:
    """Has the stream that computes wait for the copies, and their memory wait for it."""
    assert loaded.ready is not None
    stream = torch.cuda.current_stream()
    stream.wait_event(loaded.ready)
    tensors = [*vars(loaded.batch).values()]
    if loaded.cached_prefix is not None:
        tensors += [loaded.cached_prefix.stream.states, loaded.cached_prefix.stream.mask]
    for tensor in tensors:
        tensor.record_stream(stream)
