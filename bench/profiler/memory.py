"""Memory of this rank by phase and owner.

Measured in one step of a phase, which is not timed. On a GPU the peak is the allocator's, reset before the step; on
a CPU it is the bytes of live tensors: what was live before the step, by owner, and what the step added at most.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import psutil
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from bench.records import Memory

TRACED = (FakeTensor, FunctionalTensor)  # what torch.compile leaves behind: it has sizes and no memory
Storages = dict[int, int]  # a storage's identity -> its bytes


class LiveTensors(TorchDispatchMode):
    """While active, follows every storage that an operation makes until it dies; `peak` is the most at once."""

    def __init__(self, known: Storages):
        super().__init__()
        self._known, self._live = known, {}
        self.current, self.peak = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_iter(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = identity(storage)
        if key in self._known or key in self._live:
            return
        self._live[key] = size = storage.nbytes()
        weakref.finalize(storage, self._gone, key)
        self.current += size
        self.peak = max(self.peak, self.current)

    def _gone(self, key: int) -> None:
        self.current -= self._live.pop(key, 0)


def storages(tensors: Iterable[Tensor]) -> Storages:
    """Each storage once, however many tensors view it."""
    return {identity(storage): storage.nbytes() for storage in _storages(tensors)}


def _storages(tensors: Iterable[Tensor]) -> Iterator[torch.UntypedStorage]:
    """Of every tensor its storage; meta and sparse tensors have none."""
    for tensor in tensors:
        if tensor.layout == torch.strided and tensor.device.type != "meta":
            yield tensor.untyped_storage()


def identity(storage: torch.UntypedStorage) -> int:
    """The address of the storage's own object: unlike the data's, never that of another one while it lives."""
    return storage._cdata  # pyright: ignore[reportPrivateUsage] -- torch has no public name for it


def live() -> Storages:
    """The storages of all tensors that Python holds."""
    return {identity(storage): storage.nbytes() for storage in _live_storages()}


def _live_storages() -> list[torch.UntypedStorage]:
    # `type`, not `isinstance`: some libraries' lazy objects load themselves when asked for their class
    found = [o for o in gc.get_objects() if issubclass(type(o), Tensor) and not issubclass(type(o), TRACED)]
    return list(_storages(found))


class Ledger:
    """The memory rows of one cell on one rank. What was live before the cell does not count."""

    def __init__(self, device: torch.device, rank: int, host: str):
        self.device, self.rank, self.host = device, rank, host
        self.rows: list[Memory] = []
        self._allocated_before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        # weak: an address may go to a new storage once its old one has died
        self._before = [weakref.ref(storage) for storage in _live_storages()] if device.type == "cpu" else []

    @contextlib.contextmanager
    def phase(
        self, name: str, module: torch.nn.Module, optimizer: Any, kept: Iterable[Tensor] = ()
    ) -> Generator[None, None, None]:
        """Measures the step that runs inside.

        `kept`: tensors that the suite holds in host memory for itself, which are no cost of the cell.
        """
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            yield
            owners = self._owners(module, optimizer, {})
            del owners["other"]  # the allocator does not tell it from what the step added
            peak = torch.cuda.max_memory_allocated(self.device) - self._allocated_before
            owners["step"] = peak - sum(owners.values())
            self._add(name, peak, torch.cuda.max_memory_reserved(self.device), owners)
            return
        ours = storages(kept) | {identity(s): s.nbytes() for ref in self._before if (s := ref()) is not None}
        known = {key: size for key, size in live().items() if key not in ours}
        owners = self._owners(module, optimizer, known)
        tracker = LiveTensors(known | ours)
        with tracker:
            yield
        owners["step"] = tracker.peak
        self._add(name, sum(owners.values()), None, owners)

    def _owners(self, module: torch.nn.Module, optimizer: Any, known: Storages) -> dict[str, int]:
        """Bytes by owner; `other` is what is known and belongs to neither parameters nor optimizer."""
        parameters = storages(_parameter_tensors(module))
        state = storages(_optimizer_tensors(optimizer))
        state = {key: size for key, size in state.items() if key not in parameters}
        other = {key: size for key, size in known.items() if key not in parameters and key not in state}
        return {
            "parameters": sum(parameters.values()),
            "optimizer_state": sum(state.values()),
            "other": sum(other.values()),
        }

    def _add(self, phase: str, peak: int, reserved: int | None, owners: dict[str, int]) -> None:
        self.rows.append(
            Memory(
                rank=self.rank,
                host=self.host,
                phase=phase,
                peak_allocated_bytes=peak,
                peak_reserved_bytes=reserved,
                rss_bytes=psutil.Process().memory_info().rss,
                owners=owners,
            )
        )


def _parameter_tensors(module: torch.nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers as they lie in memory: under ZeRO-3 the rank's shard, and what is gathered."""
    for parameter in module.parameters():
        yield parameter.data
        shard: Tensor | None = getattr(parameter, "ds_tensor", None)
        if shard is not None:
            yield shard
    yield from module.buffers()


def _optimizer_tensors(optimizer: Any) -> Iterator[Tensor]:
    """The state of the optimizer, and the fp32 copies it steps on, behind whatever ZeRO put around it."""
    inner = getattr(optimizer, "optimizer", optimizer)
    for group in inner.param_groups:
        yield from group["params"]
    for state in inner.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))
