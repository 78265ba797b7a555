"""What peft says of a config, and how its layers get into a stack."""

from __future__ import annotations

import warnings
from collections.abc import Container
from typing import Any

from torch import nn

from bench.core.settings import unknown
from bench.models.stack import Stack

# what these do happens outside of a model's layers, so that injecting them would measure something else
ELSEWHERE = {
    "ADALORA": "its ranks are allocated by a training loop of its own",
    "POLY": "it needs the task of every example",
    "SHADOW": "it runs a second model beside the backbone",
    "XLORA": "it mixes adapters that were trained before",
}


def tuners() -> dict[str, Any]:
    """The types of peft that change a model's modules: what stands in front of the input is ours to place."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import BaseTuner

    known: dict[Any, Any] = PEFT_TYPE_TO_TUNER_MAPPING
    return {kind.value: tuner for kind, tuner in known.items() if issubclass(tuner, BaseTuner)}


def parse(config: dict[str, Any]) -> Any:
    """The peft config. ValueError names the key that is wrong."""
    from dataclasses import fields

    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in tuners():
        raise ValueError(f"peft_type: {unknown(kind, tuners())}")
    if kind in ELSEWHERE:
        raise ValueError(f"peft_type: {kind} cannot be injected: {ELSEWHERE[kind]}")
    config_type = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]
    given = {key: value for key, value in config.items() if key != "peft_type"}
    names = [f.name for f in fields(config_type)]
    for key in given:
        if key not in names:
            raise ValueError(f"{key}: {unknown(key, names)}")
    return config_type(**given)


def backbones_with_targets(kind: str) -> Container[str] | None:
    """The model types for which peft knows the modules that `kind` changes. None: it asks for no names."""
    from peft.utils import constants

    own = getattr(tuners()[kind], "target_module_mapping", None)
    return own or getattr(constants, f"TRANSFORMERS_MODELS_TO_{kind}_TARGET_MODULES_MAPPING", None)


def inject(config: dict[str, Any], stack: Stack) -> tuple[list[nn.Module], list[nn.Module]]:
    """Puts peft's layers into `stack`: these layers, and modules that several of them share."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    made = parse(config)
    with warnings.catch_warnings():
        # GPT-2 keeps its weights transposed; peft says so and does what is right
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
        # as `inject_adapter_in_model` does it; that refuses VeRA, whose layers share what only the tuner names
        tuner = tuners()[config["peft_type"]](stack.backbone, {"default": made}, adapter_name="default")
    together: list[nn.Module] = [module for module in stack.modules() if isinstance(module, BaseTunerLayer)]
    shared = [module for module in tuner.children() if module is not stack.backbone]  # VeRA's matrices
    return together, shared
