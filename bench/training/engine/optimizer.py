"""AdamW in the form that suits where its state lies: fused on the device, DeepSpeed's own on the CPU of an offload."""

from __future__ import annotations

from typing import Any

import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam
from deepspeed.ops.op_builder.builder import CUDAMismatchException, MissingCUDAException
from deepspeed.utils import logger

from bench.matrix.zero_config import offload_of
from bench.methods import Recipe
from bench.training.engine.world import World


def adamw(groups: list[dict[str, Any]], recipe: Recipe, config: dict[str, Any], world: World) -> torch.optim.Optimizer:
    """Of the parameters in `groups`. Where DeepSpeed's cannot be built, torch's, and `config` is told to take it.

    A configuration that does not ask for DeepSpeed's (`zero_force_ds_cpu_optimizer: false`) gets torch's, too.
    """
    settings: dict[str, Any] = {"lr": recipe.learning_rate, "betas": recipe.betas, "eps": recipe.epsilon}
    away = offload_of(config, "offload_optimizer")["device"] != "none"
    if away and config.get("zero_force_ds_cpu_optimizer", True):
        made, reason = None, ""
        try:
            made = DeepSpeedCPUAdam(groups, **settings)  # its AdamW form; compiled on first use, for half a minute
        except (RuntimeError, MissingCUDAException, CUDAMismatchException) as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0][:200]
        if not world.any(made is None) and made is not None:
            return made
        config["zero_force_ds_cpu_optimizer"] = False
        if world.rank == 0:
            logger.warning(f"optimizer: torch's AdamW steps on the CPU, DeepSpeed's was not built: {reason}")
    return torch.optim.AdamW(groups, fused=True, **settings)
