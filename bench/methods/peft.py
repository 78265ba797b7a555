"""Any config of peft: LoRA, DoRA, IA3, VeRA, OFT, ..."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from bench.methods.base import Method, Recipe
from bench.models.backbones import Backbone

if TYPE_CHECKING:
    from bench.methods.modules.attachment import Attachment
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
            if not is_usual(config):
                from bench.methods.modules import peft_configs

                peft_configs.parse(config)
            return json.loads(json.dumps(config, allow_nan=False))  # what a record can hold, and gives back the same
        except (TypeError, AttributeError, ImportError) as error:  # peft checks some values by using them
            raise ValueError(str(error)) from error

    @property
    def label(self) -> str:
        rest = " ".join(f"{key}={value}" for key, value in self.config.items() if key != "peft_type")
        return f"{self.config['peft_type'].lower()} {rest}".rstrip()

    def check(self, backbone: Backbone) -> str | None:
        """Without target_modules, peft must know the ones of the backbone's model type."""
        kind = self.config["peft_type"]
        if "target_modules" in self.config or (is_usual(self.config) and backbone.model_type in USUAL_BACKBONES):
            return None
        from bench.methods.modules import peft_configs

        known = peft_configs.backbones_with_targets(kind)
        if known is None or backbone.model_type in known:
            return None
        return f"peft has no target_modules for {kind} on {backbone.model_type}: expected them in config"

    def attach(self, stack: Stack, vocabulary: Vocabulary) -> Attachment:
        from bench.methods.modules import peft_configs
        from bench.methods.modules.attachment import Attachment

        together, shared = peft_configs.inject(self.config, stack)
        return Attachment(stack.first_trainable_depth(), together=together, shared=shared)


def _size(value: object) -> bool:
    return type(value) is int and value > 0


def _flag(value: object) -> bool:
    return type(value) is bool


def _names(value: object) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(one, str) for one in value)


# Configs that every version of peft takes, so that reading a matrix with them need not wait for peft and torch.
# tests/methods/test_peft.py holds this against the installed peft.
USUAL: dict[str, dict[str, Callable[[object], bool]]] = {
    "LORA": {"r": _size, "lora_alpha": _size, "use_dora": _flag, "use_rslora": _flag, "target_modules": _names},
    "IA3": {},
    "VERA": {"r": _size},
    "OFT": {"oft_block_size": _size},
}
# model types for whose modules peft has names of its own, for each of these
USUAL_BACKBONES = (
    *("bert", "deberta-v2", "gemma", "gpt2", "llama", "mistral", "opt", "qwen2", "qwen3", "roberta", "t5"),
)


def is_usual(config: Mapping[str, Any]) -> bool:
    """Whether `config` is right without asking peft."""
    fields = USUAL.get(str(config.get("peft_type")))
    return fields is not None and all(
        name == "peft_type" or (name in fields and fields[name](value)) for name, value in config.items()
    )
