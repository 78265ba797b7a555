"""What ZeRO-3 needs besides its engine: backbones partitioned from the start, and what is gathered together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import deepspeed
import torch
from deepspeed.utils.z3_leaf_module import set_z3_leaf_module
from torch import Tensor
from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

from bench.matrix.cell import Cell
from bench.methods.tuned_model import TunedModel
from bench.training.engine.configuration import DTYPES, configuration


class Partitioning:
    """Loads a backbone under ZeRO-3: each rank holds its share of what is there, and the whole of one tensor at most.

    DeepSpeed 0.19.8 does not convert what is partitioned already, so the shares are made in the cell's precision.
    That is exact: one rounding, as when it converts an ordinary model. But a method that computes its start from
    the weights, as DoRA does, computes it from the rounded ones.
    """

    def __init__(self, cell: Cell):
        self.dtype = DTYPES[cell.precision]
        self._config = configuration(cell, 1)

    @classmethod
    def of(cls, cell: Cell) -> Partitioning | None:
        """None under the stages that keep parameters whole."""
        return cls(cell) if cell.zero.stage == 3 else None

    def building(self) -> contextlib.AbstractContextManager[Any]:
        """Inside, a module's parameters are partitioned as soon as its constructor ends.

        The constructors of tensors stay torch's own: DeepSpeed's would give rotary frequencies the precision, too.
        """
        return deepspeed.zero.Init(config_dict_or_path=self._config, tensor_overrides=[])

    def fill(self, parameter: torch.nn.Parameter, read: Callable[[], Tensor]) -> None:
        """Gives `parameter` the values that `read` gives; only rank 0 reads. A collective call."""
        with gathered(parameter, writer=0), torch.no_grad():
            if torch.distributed.get_rank() == 0:
                parameter.copy_(read())

    def start(self, parameters: list[torch.nn.Parameter], write: Callable[[], None]) -> None:
        """Has `write` give all of `parameters` their values; only rank 0 does. A collective call."""
        with gathered(*parameters, writer=0):
            if torch.distributed.get_rank() == 0:
                write()

    @contextlib.contextmanager
    def attaching(self) -> Generator[None, None, None]:
        """Inside, peft gathers the weights that it computes a start from: it asks transformers whether it must."""
        kept = HfDeepSpeedConfig(self._config)  # transformers refers to it weakly
        try:
            yield
        finally:
            unset_hf_deepspeed_config()
            del kept


def gather_together(tuned: TunedModel) -> None:
    """Tells ZeRO-3 which modules read weights of parts they do not call, so that it gathers those with them."""
    for module in tuned.together:
        for parameter in module.parameters():
            deepspeed.zero.register_external_parameter(module, parameter)


def convert_unpartitioned(tuned: TunedModel, dtype: torch.dtype) -> None:
    """Gives what is not partitioned its precision; DeepSpeed does it except under ZeRO-3."""
    for parameter in tuned.parameters():
        if not hasattr(parameter, "ds_id") and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def gather_frozen_layers_whole(tuned: TunedModel) -> None:
    """Under ZeRO-3 a frozen layer is one collective instead of one for each of its parameters.

    Steps of a small model took half the time. Layers with trainables stay as they are: DeepSpeed 0.19.8 releases
    their parameters before the gradients are reduced ("Cannot reduce scatter gradients ...") when a layer's input
    needs no gradient, as under LoRA, or a layer is passed twice, as under an attack.
    """
    for layer in tuned.stack.closed_layers:
        if not any(parameter.requires_grad for parameter in layer.parameters()):
            set_z3_leaf_module(layer, True)


@contextlib.contextmanager
def gathered(*parameters: torch.nn.Parameter, writer: int | None = None) -> Generator[None, None, None]:
    """The whole of parameters, where ZeRO-3 has partitioned them; what rank `writer` wrote goes to all."""
    partitioned = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not partitioned:
        yield
        return
    with deepspeed.zero.GatheredParameters(partitioned, modifier_rank=writer):
        yield


def size(parameter: torch.nn.Parameter) -> int:
    """Elements of the whole parameter, also where ZeRO-3 has partitioned it."""
    return getattr(parameter, "ds_numel", parameter.numel())
