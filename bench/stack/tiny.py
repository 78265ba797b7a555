"""A narrow model of any architecture the stacks walk, with random weights: for questions that no checkpoint answers."""

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

from bench.stack.core import Stack
from bench.stack.families import build

VOCABULARY, HIDDEN, POSITIONS = 101, 32, 64
FIRST_WORD = 5  # smaller ids are special tokens
SPREAD = 5.0  # weights are made larger than transformers starts them, so that gradients are far from zero

# what one family or another asks for; a config keeps what its family has no use for, and nothing reads it
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "embedding_size": 16,  # ALBERT
    "word_embed_proj_dim": HIDDEN,  # OPT
    "ffn_dim": 64,
    "d_ff": 64,  # T5
    "d_kv": 8,
    "decoder_start_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "sliding_window": 4,
}
# what makes a family's walk special, where its config does not say so by default
SPECIAL: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1},
    "roberta": {"type_vocab_size": 1},
    "t5": {"initializer_factor": 0.2},  # larger than others' as transformers starts it: its gradients would vanish
}


def tiny(model_type: str, layers: int, lm_head: bool) -> Stack:
    """A frozen Stack in fp32 and eval mode, without dropout. Its weights come from torch's generator."""
    config: Any = AutoConfig.for_model(model_type, **SHAPE, num_hidden_layers=layers, **SPECIAL.get(model_type, {}))
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    stack = build(_model(config, lm_head)).eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            if parameter.dim() > 1:
                parameter.mul_(SPREAD)
    return stack


def _model(config: Any, lm_head: bool) -> PreTrainedModel:
    """With the head its kind of architecture has; the first kind that transformers has of this one."""
    if not lm_head:
        return AutoModel.from_config(config, add_pooling_layer=False)
    kinds = (AutoModelForSeq2SeqLM, AutoModelForMaskedLM, AutoModelForCausalLM)
    return next(kind for kind in kinds if type(config) in kind._model_mapping).from_config(config)  # pyright: ignore[reportPrivateUsage]  # nothing public says so
