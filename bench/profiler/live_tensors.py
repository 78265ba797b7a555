"""What is alive in memory: every storage that an operation makes, by owner, until it dies."""

from __future__ import annotations

import functools
import gc
import re
import sys
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._C._distributed_c10d import Work
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

TRACED = (FakeTensor, FunctionalTensor)  # what torch.compile leaves behind: it has sizes and no memory
TORCH = str(Path(torch.__file__).parent)
# what DeepSpeed 0.19.8 calls the functions that make a rank's share of the gradients; all else it makes is to be sent
GRADIENT_MAKERS = ("grad_partition", "flat_partition", "grad_tensors", "^_?step", "fp32_grad", "^flatten")
MAKES_GRADIENTS = re.compile("|".join(GRADIENT_MAKERS))
ZERO3_LINEAR = "/deepspeed/runtime/zero/linear.py"  # the linear map of ZeRO-3, an autograd function

Owned = dict[int, tuple[int, str]]  # a storage's identity -> its bytes and its owner


class LiveTensors(TorchDispatchMode):
    """While active, follows the storages in `known` and each that an operation makes on `device` until they die.

    `peak` is the most that was alive at once, `at_peak` the same by owner. What a forward makes that records a
    backward are activations; what DeepSpeed makes is its communication or gradients; `claim` tells the rest.
    """

    def __init__(
        self,
        device: torch.device,
        known: Iterable[tuple[Iterable[Tensor], str]] = (),
        ignored: Iterable[torch.UntypedStorage] = (),
    ):
        """`known`: tensors and whose they are; what several share is the first one's. `ignored` does not count."""
        super().__init__()
        self.device = device
        self._ignored: set[int] = set()
        for storage in ignored:
            self._ignored.add(key := identity(storage))
            weakref.finalize(storage, self._ignored.discard, key).atexit = False  # its address may go to another
        self._live: Owned = {}
        self.totals: Counter[str] = Counter()
        self.current = self.peak = 0
        self.at_peak: Mapping[str, int] = {}
        for tensors, owner in known:
            for storage in storages(tensors, device):
                self._follow(storage, owner)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        perform = functools.partial(send, func) if func.namespace == "c10d" and by_gloo() else func
        result = perform(*args, **kwargs or {})
        if not func.is_view:
            for storage in storages(tree_iter(result), self.device):
                if identity(storage) not in self._live:
                    self._follow(storage, category_of_caller())
        return result

    def assign_category(self, tensors: Iterable[Tensor], owner: str) -> None:
        """Says whose `tensors` are, from now on."""
        for storage in storages(tensors, self.device):
            key = identity(storage)
            size, before = self._live.get(key, (0, owner))
            if before != owner:
                self._live[key] = (size, owner)
                self.totals.update({before: -size, owner: size})

    def _follow(self, storage: torch.UntypedStorage, owner: str) -> None:
        key, size = identity(storage), storage.nbytes()
        if key in self._ignored or key in self._live:
            return
        self._live[key] = size, owner
        weakref.finalize(storage, self._gone, key).atexit = False
        self.totals[owner] += size
        self.current += size
        self.grown()

    def grown(self) -> None:
        """After each storage that came in."""
        if self.current > self.peak:
            self.peak, self.at_peak = self.current, dict(self.totals)

    def _gone(self, key: int) -> None:
        size, owner = self._live.pop(key, (0, "other"))
        self.totals[owner] -= size
        self.current -= size


def category_of_caller() -> str:
    """Who asked for the operation that runs, from the Python frames it was called from."""
    frame: Any = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] -- inspect's way takes a hundred times as long
    while frame is not None:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        if file.endswith("/torch/autograd/graph.py"):  # a backward's
            return "other"
        if file.endswith(ZERO3_LINEAR):
            return "activations" if function == "forward" else "other"
        if "/deepspeed/" in file:
            return "gradients" if MAKES_GRADIENTS.search(function) else "communication"
        if function != "__torch_dispatch__" and not file.startswith(TORCH):
            break
        frame = frame.f_back
    return "activations" if torch.is_grad_enabled() else "other"


def by_gloo() -> bool:
    return torch.distributed.get_backend() == "gloo"


def send(collective: Any, *args: Any, **kwargs: Any) -> Any:
    """What `collective` gives, done at once and on copies, so that no tensor lives longer than its references.

    Gloo's threads let go of what they were given some time after it is done: what is alive would be chance.
    """
    originals: dict[int, Tensor] = {}

    def copied(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        originals[id(copy)] = tensor
        return copy

    copies, options = tree_map_only(Tensor, copied, (args, kwargs))
    result = collective(*copies, **options)
    work = result[-1] if isinstance(result, tuple) else result
    Work.unbox(work).wait()
    for copy in tree_iter(copies[0]):  # what it writes
        if isinstance(copy, Tensor):
            originals[id(copy)].copy_(copy)
    return tree_map_only(Tensor, lambda copy: originals[id(copy)], result)


def storages(tensors: Iterable[Any], device: torch.device) -> Iterator[torch.UntypedStorage]:
    """Of every tensor on this kind of device its storage; sparse tensors have none."""
    for tensor in tensors:
        # `type`, not `isinstance`: some libraries' lazy objects load themselves when asked for their class
        if issubclass(type(tensor), Tensor) and tensor.layout == torch.strided and tensor.device.type == device.type:
            yield tensor.untyped_storage()


def identity(storage: torch.UntypedStorage) -> int:
    """The address of the storage's own object: unlike the data's, never that of another one while it lives."""
    return storage._cdata  # pyright: ignore[reportPrivateUsage] -- torch has no public name for it


def all_live_tensors() -> list[Tensor]:
    """All tensors that Python holds."""
    return [one for one in gc.get_objects() if issubclass(type(one), Tensor) and not issubclass(type(one), TRACED)]
