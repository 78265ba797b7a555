"""Running without computing: operations give memory of the right shape that nobody writes.

So the real model, the real ZeRO engine and the real step run on one CPU in the time that Python takes, whatever
their size: memory that is never written takes no room, and the bytes of every tensor are what they would be. All is 0.
Small tensors of integers and truth values, and single numbers, are computed, since what happens next may depend on
them: a mask that is all true is left out, a gradient that overflows is not stepped on.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SMALL = 2**17  # elements: masks, positions
FEW = 16  # of floating-point numbers: norms, flags on their way to the host
SHAPING = (torch.ops.aten.set_, torch.ops.aten.resize_)  # they change what a tensor is, not what is in it
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # the system may refuse more than it has otherwise; named from 3.11


class Hollow(TorchDispatchMode):
    """While active, no number is computed, copied or sent. Results are meaningless, their sizes are not."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Any, Any] = {}  # what an operation gives for such arguments: layers repeat each other

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "c10d":
            return _not_sent(func, args)
        if func.is_view or func.namespace != "aten" or func.overloadpacket in SHAPING or _on_meta(args, kwargs):
            return func(*args, **kwargs)
        if not _gives_tensors(func):
            return None if func._schema.is_mutable else func(*args, **kwargs)
        if func._schema.is_mutable:
            return func(*args, **kwargs) if _computed((args, kwargs)) else _not_written(func, args, kwargs)
        try:
            bare = self._sized(func, args, kwargs)
        except NotImplementedError:  # its sizes depend on content
            return func(*args, **kwargs)
        if _computed((args, kwargs)) and _computed(bare, SMALL) and "empty" not in func.__name__:
            return func(*args, **kwargs)
        return _each(bare, _given_memory)

    def _sized(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The results by torch's own rules for tensors without content."""
        key = func, _each(args, _shape), tuple(_each(list(kwargs.items()), _shape))
        if key not in self._known:
            args, kwargs = _each(args, _bare), {name: _each(value, _bare) for name, value in kwargs.items()}
            if "device" in kwargs:
                kwargs["device"] = torch.device("meta")
            kwargs.pop("pin_memory", None)
            self._known[key] = func(*args, **kwargs)
        return self._known[key]


@functools.cache
def _gives_tensors(func: Any) -> bool:
    return any("Tensor" in str(one.type) for one in func._schema.returns)


def _each(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """`value` with its tensors changed; lists become tuples, which can be keys."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return tuple(_each(item, change) for item in value)
    return value


def _computed(value: Any, limit: int = FEW) -> bool:
    """Whether its tensors are computed on: `limit` is for those of floating-point numbers."""
    if isinstance(value, Tensor):
        return value.numel() <= (limit if value.is_floating_point() else SMALL)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return all(_computed(item, limit) for item in value)


def _on_meta(args: Any, kwargs: Any) -> bool:
    """Whether it is without content already."""
    device = kwargs.get("device")
    return (device is not None and torch.device(device).type == "meta") or any(
        isinstance(one, Tensor) and one.device.type == "meta" for one in args
    )


def _not_sent(func: Any, args: Any) -> Any:
    """A collective that is done at once."""
    group = next(one for one in args if isinstance(one, torch.ScriptObject) and "ProcessGroup" in str(one._type()))
    work = torch.ops.c10d.barrier.default(torch.zeros(1), group, [])
    returns = len(func._schema.returns)
    return (args[0], work) if returns == 2 else work if returns == 1 else None


def _not_written(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation in place, or with `out`, returns: the arguments that it would have written."""
    given = dict(zip([argument.name for argument in func._schema.arguments], args, strict=False)) | kwargs
    aliases = {
        frozenset(argument.alias_info.before_set): given.get(argument.name)
        for argument in func._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
    }
    returned = [aliases[frozenset(one.alias_info.before_set)] for one in func._schema.returns if one.alias_info]
    return None if not returned else returned[0] if len(returned) == 1 else tuple(returned)


def _shape(tensor: Tensor) -> Any:
    return tensor.size(), tensor.stride(), tensor.dtype


def _bare(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


def _given_memory(bare: Tensor) -> Tensor:
    size, stride, dtype = bare.size(), bare.stride(), bare.dtype
    if bare.numel() <= SMALL:
        return torch.empty_strided(size, stride, dtype=dtype).zero_()
    room = mmap.mmap(-1, bare.untyped_storage().nbytes(), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
    return torch.frombuffer(room, dtype=dtype).as_strided(size, stride)  # zeros, which take no room until written
