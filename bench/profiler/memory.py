"""Memory of this rank by phase and owner.

Measured while a phase sets up, and in one step of the others, which is not timed. What was alive at the peak is told by
owner: parameters (a rank's share under ZeRO-3), gradients, optimizer state with the fp32 weights it steps on,
communication (buckets, and what ZeRO-3 has gathered), states from the feature cache, activations (what a forward made
for its backward), and the rest. On a GPU the peak is the allocator's; on a CPU it is the bytes of live tensors.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import psutil
import torch
from torch import Tensor

from bench.profiler import nvml
from bench.profiler.live_tensors import LiveTensors, all_live_tensors, storages
from bench.records.record import OWNERS, Memory


class Ledger:
    """The memory rows of one cell on one rank. What was alive before the cell does not count."""

    def __init__(self, device: torch.device, rank: int, host: str, tracker: type[LiveTensors] = LiveTensors):
        self.device, self.rank, self.host, self._tracker = device, rank, host, tracker
        self.rows: list[Memory] = []
        self.trackers: list[LiveTensors] = []  # of each row
        # weak: what was there before may go while the cell runs
        self._before = [weakref.ref(storage) for storage in storages(all_live_tensors(), device)]

    @contextlib.contextmanager
    def setup(self) -> Generator[list[Any], None, None]:
        """Measures what runs inside, which puts the module and its optimizer into the list that it is given."""
        made: list[Any] = []
        tracker = self._tracker(self.device, (), self._foreign())
        with self._peak("setup", tracker):
            with tracker:
                yield made
            after = LiveTensors(self.device, owners(*made), self._foreign())
            tracker.at_peak, tracker.peak = after.totals, max(tracker.peak, after.current)  # threads are not seen

    @contextlib.contextmanager
    def step(
        self,
        phase: str,
        module: torch.nn.Module,
        optimizer: Any,
        kept: Iterable[Tensor] = (),
        cached: Iterable[Tensor] = (),
    ) -> Generator[LiveTensors, None, None]:
        """Measures the step that runs inside.

        `kept`: tensors that the suite holds in host memory for itself, which are no cost of the cell. `cached`: states
        that came from the feature cache.
        """
        known = [*owners(module, optimizer), (cached, "feature_cache"), (all_live_tensors(), "other")]
        tracker = self._tracker(self.device, known, [*self._foreign(), *storages(kept, self.device)])
        del known, cached  # what a step drops on its way shall be gone
        hooks = [
            parameter.register_hook(lambda gradient: tracker.assign_category([gradient], "gradients"))
            for parameter in module.parameters()
            if parameter.requires_grad
        ]
        # compiled code cannot be followed, and what torch.compile meets here it would leave uncompiled for good
        try:
            with self._peak(phase, tracker), torch.compiler.set_stance("force_eager"), tracker:
                yield tracker
        finally:
            for hook in hooks:
                hook.remove()

    def _foreign(self) -> list[torch.UntypedStorage]:
        return [storage for ref in self._before if (storage := ref()) is not None]

    @contextlib.contextmanager
    def _peak(self, phase: str, tracker: LiveTensors) -> Generator[None, None, None]:
        """Adds the row of what runs inside; what an allocator gave beyond live tensors is other."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        yield
        peak, reserved = tracker.peak, None
        if cuda:
            peak = torch.cuda.max_memory_allocated(self.device) - sum(one.nbytes() for one in self._foreign())
            reserved = torch.cuda.max_memory_reserved(self.device)
        self._add(phase, peak, reserved, tracker)

    def _add(self, phase: str, peak: int, reserved: int | None, tracker: LiveTensors) -> None:
        self.trackers.append(tracker)
        owned = {owner: tracker.at_peak.get(owner, 0) for owner in OWNERS}
        owned["other"] += peak - sum(owned.values())
        self.rows.append(
            Memory(
                rank=self.rank,
                host=self.host,
                phase=phase,
                peak_allocated_bytes=peak,
                peak_reserved_bytes=reserved,
                rss_bytes=psutil.Process().memory_info().rss,
                outside_allocator_bytes=nvml.outside_allocator_bytes(self.device),
                owners=owned,
            )
        )


def owners(module: torch.nn.Module, optimizer: Any) -> Iterator[tuple[list[Tensor], str]]:
    """The tensors of each owner between two steps; what two of them share is the first one's."""
    yield list(_parameter_tensors(module)), "parameters"
    yield list(_optimizer_tensors(optimizer)), "optimizer_state"
    stepped = [p for group in _inner(optimizer).param_groups for p in group["params"]]
    yield [p.grad for p in (*module.parameters(), *stepped) if p.grad is not None], "gradients"
    for name, value in vars(optimizer).items():  # what DeepSpeed puts around the optimizer
        if "fp32" in name and "grad" not in name:  # under ZeRO-3 the optimizer knows them while it steps on them only
            weights = list(_tensors(value))
            yield weights, "optimizer_state"
            yield [one.grad for one in weights if one.is_leaf and one.grad is not None], "gradients"
        elif "grad" in name:
            yield list(_tensors(value)), "gradients"
        elif "ipg" in name or "bucket" in name:
            yield list(_tensors(value)), "communication"


def _parameter_tensors(module: torch.nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers as they lie in memory: under ZeRO-3 the rank's shard, and what is gathered."""
    for parameter in module.parameters():
        yield parameter.data
        shard: Tensor | None = getattr(parameter, "ds_tensor", None)
        if shard is not None:
            yield shard
    yield from module.buffers()


def _optimizer_tensors(optimizer: Any) -> Iterator[Tensor]:
    """The state of the optimizer, and the fp32 copies it steps on."""
    for group in _inner(optimizer).param_groups:
        yield from group["params"]
    for state in _inner(optimizer).state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))


def _inner(optimizer: Any) -> Any:
    """Behind whatever ZeRO put around it."""
    return getattr(optimizer, "optimizer", optimizer)


def _tensors(value: Any, depth: int = 4) -> Iterator[Tensor]:
    """Those inside lists, mappings and plain objects, so deep."""
    if isinstance(value, Tensor):
        yield value
    elif depth > 0 and isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item, depth - 1)
    elif depth > 0 and type(value).__module__.startswith("deepspeed.") and hasattr(value, "__dict__"):
        yield from _tensors(vars(value), depth - 1)
