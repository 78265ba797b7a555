"""Which Stack walks which architecture. `build` wraps a loaded model, `load` reads one from disk or the hub.

Apart from the core because it imports transformers' models, which takes seconds that reading a matrix need not wait.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)
from transformers.utils import logging
from transformers.utils.import_utils import is_flash_attn_2_available

from bench.core.settings import Unsupported
from bench.models.backbones import FAMILIES, Backbone
from bench.models.stack.albert import Albert
from bench.models.stack.bert import Bert, Roberta
from bench.models.stack.deberta import Deberta
from bench.models.stack.gpt2 import Gpt2
from bench.models.stack.llama import Llama
from bench.models.stack.opt import Opt
from bench.models.stack.partitioned import Partitioning, load_partitioned
from bench.models.stack.stack import Stack
from bench.models.stack.t5 import T5

STACKS: dict[str, type[Stack]] = {
    "albert": Albert,
    "bert": Bert,
    "deberta": Deberta,
    "gpt2": Gpt2,
    "llama": Llama,
    "opt": Opt,
    "roberta": Roberta,
    "t5": T5,
}
# no code of a checkpoint is run: neither what it brings nor what a pickle may hold
SAFELY = {"trust_remote_code": False, "weights_only": True}
LOADERS: dict[str, Any] = {
    "masked": AutoModelForMaskedLM,
    "causal": AutoModelForCausalLM,
    "encoder_decoder": AutoModelForSeq2SeqLM,
}


def build(model: PreTrainedModel) -> Stack:
    """The Stack of a loaded model. ValueError names a model type that no family walks."""
    model_type = model.config.model_type
    if model_type not in FAMILIES:
        raise ValueError(f"backbone: model_type is {model_type}, expected one of {', '.join(sorted(FAMILIES))}")
    return STACKS[FAMILIES[model_type]](model)


def load(backbone: Backbone, location: str, partitioning: Partitioning | None = None, attention: str = "sdpa") -> Stack:
    """The Stack of `backbone` from `location` (a folder, or a name on the hub), frozen, in eval mode.

    In fp32 and whole; with `partitioning`, a collective call, in its precision and partitioned from the start.
    ValueError names the weights that the checkpoint lacks, Unsupported an attention that is not installed.
    """
    logging.disable_progress_bar()
    stack = STACKS[FAMILIES[backbone.model_type]]
    revision = backbone.revision or "main"
    options = attention_options(attention) | ({} if backbone.lm_head else stack.headless_options)
    missing: set[str] = set()
    for variant in stack.variants:
        config = AutoConfig.from_pretrained(location, revision=revision, trust_remote_code=False, **variant)
        if partitioning is None:
            reading = {"dtype": torch.float32, "output_loading_info": True, **SAFELY}
            reading["use_safetensors"] = backbone.pickle is None
            model, info = auto(backbone).from_pretrained(
                location, config=config, revision=revision, **reading, **options
            )
            lacking: set[str] = set(info["missing_keys"])
        else:
            model, lacking = load_partitioned(auto(backbone), config, location, revision, partitioning, **options)
        if not lacking:
            return build(model).eval()
        missing = missing or lacking
    raise ValueError(f"backbone: the checkpoint {location} lacks {', '.join(sorted(missing))}")


def attention_options(attention: str) -> dict[str, Any]:
    """What transformers is told of a cell's `attention`. sdpa is its own choice: DeBERTa has none but its own."""
    if attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise Unsupported("attention: flash_attention_2 needs the package flash-attn and a CUDA device")
    return {} if attention == "sdpa" else {"attn_implementation": attention}


def auto(backbone: Backbone) -> Any:
    """The class of transformers that reads `backbone`."""
    if not backbone.lm_head:
        return AutoModel
    return LOADERS[backbone.form]
