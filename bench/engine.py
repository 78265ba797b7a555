"""DeepSpeed: the process group, the wrapped module, one step, what is saved. Nothing else imports deepspeed.

Seen with DeepSpeed 0.19.8: `torch.autograd.grad` through an engine fails at ZeRO 0-2, through the bare module
(`engine.module`) it is exact on all stages; so attacks run on the bare module and the loss on the engine.
"""

from __future__ import annotations

import contextlib
import copy
import os
import socket
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.utils import safe_get_full_grad
from deepspeed.utils.z3_leaf_module import set_z3_leaf_module
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

from bench.cells import Cell
from bench.methods import Recipe
from bench.perturb import View
from bench.tuned import Tuned

LINEAR = torch.nn.functional.linear
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class World:
    """The process group this process is in."""

    rank: int
    size: int
    device: torch.device
    host: str

    @classmethod
    def join(cls) -> World:
        """Joins the group the deepspeed launcher set up; a process without a launcher is a group of one."""
        if "RANK" not in os.environ:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]))
            os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_SIZE="1")
        # The shared-memory collectives of DeepSpeed are compiled for 40 s on first use and need a compiler;
        # with gloo a step of a small model took the same time on two ranks.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(auto_mpi_discovery=False)
        accelerator: Any = get_accelerator()
        device = torch.device("cpu")
        if accelerator.device_name() != "cpu":  # LOCAL_RANK, not RANK, is a device index
            device = torch.device(accelerator.device_name(int(os.environ["LOCAL_RANK"])))
            accelerator.set_device(device.index)
        dist = torch.distributed
        return cls(dist.get_rank(), dist.get_world_size(), device, socket.gethostname())

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, in the order of ranks."""
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def mean(self, value: Tensor) -> Tensor:
        """The mean over ranks of a tensor, in fp32."""
        value = value.detach().float().clone()
        torch.distributed.all_reduce(value)
        return value / self.size

    def any(self, flag: bool) -> bool:
        return any(self.gather(flag))

    def leave(self) -> None:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


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

    def whole(self, parameters: Iterable[torch.nn.Parameter]) -> contextlib.AbstractContextManager[Any]:
        """Inside, the parameters can be read on every rank. A collective call."""
        return deepspeed.zero.GatheredParameters(list(parameters))

    @contextlib.contextmanager
    def attaching(self) -> Generator[None, None, None]:
        """Inside, peft gathers the weights that it computes a start from: it asks transformers whether it must."""
        kept = HfDeepSpeedConfig(self._config)  # transformers refers to it weakly
        try:
            yield
        finally:
            unset_hf_deepspeed_config()
            del kept


class Engine:
    """A Tuned module under one ZeRO configuration; optimizer, clipping and saving see its trainables only."""

    def __init__(self, tuned: Tuned, cell: Cell, world: World):
        self.world = world
        self.trainable = tuned.trainable()
        tuned.to(world.device)
        if cell.zero.stage == 3:
            convert_unpartitioned(tuned, DTYPES[cell.precision])
            gather_frozen_layers_whole(tuned)
        recipe = cell.method.recipe

        def schedule(optimizer: Any) -> Any:
            return LambdaLR(optimizer, lambda step: factor(recipe, step, cell.steps))

        self._engine: Any
        self.optimizer: Any
        self._engine, self.optimizer, _, _ = deepspeed.initialize(
            model=tuned,
            optimizer=_optimizer(self.trainable, recipe),
            lr_scheduler=schedule,
            config=configuration(cell, sum(map(size, self.trainable.values()))),
            dist_init_required=False,
        )

        if cell.zero.stage == 3:
            gather_together(tuned)

    @property
    def tuned(self) -> Tuned:
        """The bare module."""
        return self._engine.module

    def step(self, passes: Iterable[list[View]]) -> Tensor:
        """One optimizer step over the views of each micro-batch; the mean clean loss of this rank, detached.

        A micro-batch's views are made when its turn comes: those of an accumulated step are never all there.
        """
        losses: list[Tensor] = []
        for views in passes:
            loss, clean = self._engine(views)
            self._engine.backward(loss)
            self._engine.step()
            losses.append(clean)
        return torch.stack(losses).mean()

    def gradients(self, passes: Iterable[list[View]]) -> tuple[Tensor, dict[str, Tensor | None]]:
        """A step up to the optimizer: this rank's mean loss, and every trainable's whole gradient, as averaged.

        A collective call, and the engine's last. None: no gradient.
        """
        losses: list[Tensor] = []
        for views in passes:
            if losses:
                self._engine.step()  # counts the pass before, which was not the last
            loss, _ = self._engine(views)
            self._engine.backward(loss)
            losses.append(loss.detach())
        scale = getattr(self.optimizer, "loss_scale", 1.0)
        gradients = {name: safe_get_full_grad(parameter) for name, parameter in self.trainable.items()}
        return torch.stack(losses).mean(), {n: None if g is None else g / scale for n, g in gradients.items()}

    def train(self) -> None:
        self._engine.train()

    def state(self) -> dict[str, Tensor]:
        """The trainable tensors, whole and on the CPU, on rank 0; empty on the others. A collective call."""
        state: dict[str, Tensor] = {}
        for name, parameter in self.trainable.items():
            with gathered(parameter):
                if self.world.rank == 0:
                    state[name] = parameter.detach().to("cpu", copy=True)
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        """Puts back what `state` gave. A collective call; the optimizer's own copies stay as they are."""
        for name, parameter in self.trainable.items():
            with gathered(parameter, writer=0), torch.no_grad():
                if self.world.rank == 0:
                    parameter.copy_(state[name])
                if not hasattr(parameter, "ds_id"):
                    torch.distributed.broadcast(parameter.data, 0)

    def save(self, file: Path) -> None:
        """The trainable tensors as safetensors. A collective call; rank 0 writes."""
        state = self.state()
        if self.world.rank == 0:
            save_file(state, file)

    def close(self) -> None:
        self._engine.destroy()
        del self._engine, self.optimizer, self.trainable
        # ZeRO-3 replaces this for the whole process, and the cells after it would be slower for it
        torch.nn.functional.linear = LINEAR


def gather_together(tuned: Tuned) -> None:
    """Tells ZeRO-3 which modules read weights of parts they do not call, so that it gathers those with them."""
    for module in tuned.together:
        for parameter in module.parameters():
            deepspeed.zero.register_external_parameter(module, parameter)


def convert_unpartitioned(tuned: Tuned, dtype: torch.dtype) -> None:
    """Gives what was added to a partitioned backbone its precision, as DeepSpeed does on other stages only."""
    for parameter in tuned.parameters():
        if not hasattr(parameter, "ds_id") and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def gather_frozen_layers_whole(tuned: Tuned) -> None:
    """Under ZeRO-3 a frozen layer is one collective instead of one for each of its parameters.

    Steps of a small model took half the time. Layers with trainables stay as they are: DeepSpeed 0.19.8 releases
    their parameters before the gradients are reduced ("Cannot reduce scatter gradients ...") when a layer's input
    needs no gradient, as under LoRA, or a layer is passed twice, as under an attack.
    """
    for layer in tuned.stack.closed_layers:
        if not any(parameter.requires_grad for parameter in layer.parameters()):
            set_z3_leaf_module(layer, True)


@contextlib.contextmanager
def gathered(parameter: torch.nn.Parameter, writer: int | None = None) -> Generator[None, None, None]:
    """The whole of a parameter that ZeRO-3 has partitioned; what rank `writer` wrote goes to all."""
    if not hasattr(parameter, "ds_id"):
        yield
        return
    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=writer):
        yield


def size(parameter: torch.nn.Parameter) -> int:
    """Elements of the whole parameter, also where ZeRO-3 has partitioned it."""
    return getattr(parameter, "ds_numel", parameter.numel())


def configuration(cell: Cell, trainable: int) -> dict[str, Any]:
    """The cell's DeepSpeed configuration with its batch sizes, precision and clipping set.

    DeepSpeed allocates the whole reduce bucket, so it is made no larger than the `trainable` elements that can
    ever be in it: a method with few of them is not charged for the room of many.
    """
    config = copy.deepcopy(cell.zero.config)
    config.pop("train_batch_size", None)
    config["train_micro_batch_size_per_gpu"] = cell.micro
    config["gradient_accumulation_steps"] = cell.accumulation
    config["gradient_clipping"] = cell.method.recipe.clip
    zero = config.setdefault("zero_optimization", {})
    if "reduce_bucket_size" in zero:
        zero["reduce_bucket_size"] = min(zero["reduce_bucket_size"], trainable)
    for precision in ("bf16", "fp16"):
        config[precision] = {**config.get(precision, {}), "enabled": cell.precision == precision}
    return config


def factor(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of `step` (from 0) as a share of the recipe's: warm-up from 0, then linear or constant."""
    warmup = round(recipe.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return 1.0
    return max(0.0, (steps - step) / max(1, steps - warmup))


def _optimizer(trainable: dict[str, torch.nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; vectors (biases, norms) are not decayed."""
    vectors = {name for name, p in trainable.items() if len(getattr(p, "ds_shape", p.shape)) <= 1}
    decayed = [p for name, p in trainable.items() if name not in vectors]
    rest = [p for name, p in trainable.items() if name in vectors]
    groups = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((decayed, recipe.weight_decay), (rest, 0.0))
        if params
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon)
