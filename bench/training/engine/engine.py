"""A TunedModel in a DeepSpeed engine.

Seen with DeepSpeed 0.19.8: `torch.autograd.grad` through an engine fails at ZeRO 0-2, through the bare module
(`engine.module`) it is exact on all stages; so attacks run on the bare module and the loss on the engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.utils import groups, safe_get_full_grad
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from bench.matrix.cell import Cell
from bench.methods import Recipe
from bench.methods.tuned_model import TunedModel
from bench.models.forward_passes import ForwardPass
from bench.training.engine.configuration import DTYPES, configuration
from bench.training.engine.optimizer import adamw
from bench.training.engine.world import World
from bench.training.engine.zero3 import (
    convert_unpartitioned,
    gather_frozen_layers_whole,
    gather_together,
    gathered,
    size,
)

LINEAR = torch.nn.functional.linear


class Engine:
    """A TunedModel under one ZeRO configuration; optimizer, clipping and saving see its trainables only."""

    def __init__(self, tuned: TunedModel, cell: Cell, world: World):
        self.world = world
        self.trainable = tuned.trainable()
        convert_unpartitioned(tuned, DTYPES[cell.precision])  # as DeepSpeed would, but before it takes a device's room
        tuned.shared.to(DTYPES[cell.precision])  # DeepSpeed converts parameters, not buffers
        tuned.to(world.device)
        if cell.zero.stage == 3:
            gather_frozen_layers_whole(tuned)
        recipe = cell.method.recipe
        self.passes = cell.regularizer.passes  # of each micro-batch, over which DeepSpeed takes the mean

        def schedule(optimizer: Any) -> Any:
            return LambdaLR(optimizer, lambda step: factor(recipe, step, cell.steps))

        self._engine: Any
        self.optimizer: Any
        config = configuration(cell, sum(map(size, self.trainable.values())))
        self._engine, self.optimizer, _, _ = deepspeed.initialize(
            model=tuned,
            optimizer=adamw(_groups(self.trainable, tuned.of_backbone, recipe), recipe, config, world),
            lr_scheduler=schedule,
            config=config,
            dist_init_required=False,
        )

        if cell.zero.stage == 3:
            gather_together(tuned)
        if cell.zero.stage == 0 and cell.precision == "fp32" and world.size == 1:
            # there is nothing to sum, and DeepSpeed would copy all gradients into a bucket and back
            self._engine.enable_backward_allreduce = False

    @property
    def tuned(self) -> TunedModel:
        """The bare module."""
        return self._engine.module

    def step(self, passes: Iterable[ForwardPass]) -> Tensor:
        """One optimizer step over the passes of each micro-batch; the mean clean loss of this rank, detached.

        A pass is made when its turn comes: it may depend on the backward of the one before, and those of an
        accumulated step are never all there.
        """
        losses: list[Tensor] = []
        for number, shown in enumerate(passes):
            loss, clean = self._engine(shown)
            self._engine.backward(loss * self.passes)
            self._engine.step()
            if number % self.passes == 0:
                losses.append(clean)
        return torch.stack(losses).mean()

    def gradients(self, passes: Iterable[ForwardPass]) -> tuple[Tensor, dict[str, Tensor | None]]:
        """A step up to the optimizer: this rank's mean loss, and every trainable's whole gradient, as averaged.

        A collective call, and the engine's last. None: no gradient.
        """
        losses: list[Tensor] = []
        for shown in passes:
            if losses:
                self._engine.step()  # counts the pass before, which was not the last
            loss = self._engine(shown)[0] * self.passes
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

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Puts back what `state` gave, or what rank 0 brings. A collective call; the optimizer's own copies stay."""
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
        restore()


def restore() -> None:
    """What an engine leaves behind in its process, also one that could not be set up."""
    torch.nn.functional.linear = LINEAR  # ZeRO-3 replaces it, and the cells after it would be slower for it
    groups._ZERO_PARAM_INTRA_PARALLEL_GROUP = None  # of ZeRO++, which the next makes anew  # pyright: ignore


def factor(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of `step` (from 0) as a share of the recipe's: warm-up from 0, then linear or constant."""
    warmup = round(recipe.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return 1.0
    return max(0.0, (steps - step) / max(1, steps - warmup))


def _groups(
    trainable: dict[str, torch.nn.Parameter], of_backbone: Collection[str], recipe: Recipe
) -> list[dict[str, Any]]:
    """What the backbone had has a learning rate of its own.

    Vectors are not decayed: biases, norms, scales, also those kept as one row or column.
    """
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in trainable.items():
        rate = recipe.rate(name in of_backbone)
        vector = size(parameter) == max(getattr(parameter, "ds_shape", parameter.shape), default=1)
        groups.setdefault((rate, vector), []).append(parameter)
    return [
        {"params": groups[rate, vector], "lr": rate, "weight_decay": 0.0 if vector else recipe.weight_decay}
        for rate, vector in sorted(groups)
    ]
