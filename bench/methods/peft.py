"""Any config of peft: LoRA, DoRA, IA3, VeRA, OFT, ... (injected into the modules the Stack runs)."""

import json
import warnings
from typing import Any, Literal

from pydantic import field_validator
from torch import nn

from bench.core.settings import unknown
from bench.methods.base import Attachment, Method, Recipe
from bench.models.backbones import Backbone
from bench.models.stack import Stack
from bench.models.vocabulary import Vocabulary


class Peft(Method):
    """`config` is a peft config as its JSON: `{peft_type: LORA, r: 8}`; fields left out take peft's defaults.

    LoRA's defaults in peft are r = 8, alpha = 8, no dropout; its authors take alpha = 16. The recipe is theirs for
    RoBERTa-base (microsoft/LoRA, examples/NLU/roberta_base_mnli.sh); other types want other learning rates (IA3 3e-3
    in r-three/t-few, VeRA 2e-2 in peft's examples).
    """

    source = "peft; LoRA: Hu et al. 2021, arXiv 2106.09685"
    kind: Literal["peft"] = "peft"
    config: dict[str, Any]
    recipe: Recipe = Recipe(learning_rate=5e-4, weight_decay=0.1)

    @field_validator("config")
    @classmethod
    def is_peft_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        try:
            _parse(config)
            return json.loads(json.dumps(config, allow_nan=False))  # what a record can hold, and gives back the same
        except (TypeError, AttributeError, ImportError) as error:  # peft checks some values by using them
            raise ValueError(str(error)) from error

    @property
    def label(self) -> str:
        rest = " ".join(f"{key}={value}" for key, value in self.config.items() if key != "peft_type")
        return f"{self.config['peft_type'].lower()} {rest}".rstrip()

    def check(self, backbone: Backbone) -> str | None:
        """Without target_modules, peft must know the ones of the backbone's model type."""
        from peft.utils import constants

        kind = self.config["peft_type"]
        known = getattr(_tuners()[kind], "target_module_mapping", None)
        known = known or getattr(constants, f"TRANSFORMERS_MODELS_TO_{kind}_TARGET_MODULES_MAPPING", None)
        if "target_modules" in self.config or known is None or backbone.model_type in known:
            return None
        return f"peft has no target_modules for {kind} on {backbone.model_type}: expected them in config"

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from peft.tuners.tuners_utils import BaseTunerLayer

        config = _parse(self.config)
        with warnings.catch_warnings():
            # GPT-2 keeps its weights transposed; peft says so and does what is right
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
            # as `inject_adapter_in_model` does it; that refuses VeRA, whose layers share what only the tuner names
            tuner = _tuners()[self.config["peft_type"]](stack.backbone, {"default": config}, adapter_name="default")
        together: list[nn.Module] = [module for module in stack.modules() if isinstance(module, BaseTunerLayer)]
        shared = nn.ModuleList(module for module in tuner.children() if module is not stack.backbone)  # VeRA's matrices
        return Attachment(stack.first_trainable_depth(), together=together, shared=shared)


# what these do happens outside of a model's layers, so that injecting them would measure something else
ELSEWHERE = {
    "ADALORA": "its ranks are allocated by a training loop of its own",
    "POLY": "it needs the task of every example",
    "SHADOW": "it runs a second model beside the backbone",
    "XLORA": "it mixes adapters that were trained before",
}


def _tuners() -> dict[str, Any]:
    """The types of peft that change a model's modules: what stands in front of the input is ours to place."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import BaseTuner

    tuners: dict[Any, Any] = PEFT_TYPE_TO_TUNER_MAPPING
    return {kind.value: tuner for kind, tuner in tuners.items() if issubclass(tuner, BaseTuner)}


def _parse(config: dict[str, Any]) -> Any:
    """The peft config. ValueError names the key that is wrong."""
    from dataclasses import fields

    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in _tuners():
        raise ValueError(f"peft_type: {unknown(kind, _tuners())}")
    if kind in ELSEWHERE:
        raise ValueError(f"peft_type: {kind} cannot be injected: {ELSEWHERE[kind]}")
    config_type = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]
    given = {key: value for key, value in config.items() if key != "peft_type"}
    names = [f.name for f in fields(config_type)]
    for key in given:
        if key not in names:
            raise ValueError(f"{key}: {unknown(key, names)}")
    return config_type(**given)
