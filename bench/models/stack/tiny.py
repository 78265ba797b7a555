"""A narrow model of any architecture the stacks walk, with random weights: for questions that no checkpoint answers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from bench.models.backbones import FAMILIES
from bench.models.stack.families import LOADERS, STACKS, attention_options, build
from bench.models.stack.stack import Stack

VOCABULARY, HIDDEN, POSITIONS = 101, 192, 64
FIRST_WORD = 5  # smaller ids are special tokens
SPREAD = 1.0  # weights are made larger than transformers starts them, so that gradients are far from zero

# what one family or another asks for; a config keeps what its family has no use for, and nothing reads it
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": HIDDEN // 4,
    "intermediate_size": 2 * HIDDEN,
    "max_position_embeddings": POSITIONS,
    "embedding_size": 16,  # ALBERT
    "word_embed_proj_dim": HIDDEN,  # OPT
    "ffn_dim": 2 * HIDDEN,
    "d_ff": 2 * HIDDEN,  # T5
    "d_kv": HIDDEN // 4,
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


def tiny(model_type: str, layers: int, lm_head: bool, attention: str = "sdpa") -> Stack:
    """A frozen Stack in fp32 and eval mode, without dropout. Its weights come from torch's generator."""
    config: Any = AutoConfig.for_model(model_type, **SHAPE, num_hidden_layers=layers, **SPECIAL.get(model_type, {}))
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)
    stack = build(_model(config, lm_head, attention)).eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            if parameter.dim() > 1:
                parameter.mul_(SPREAD)
    return stack


def _model(config: Any, lm_head: bool, attention: str) -> PreTrainedModel:
    stack, options = STACKS[FAMILIES[config.model_type]], attention_options(attention)
    if lm_head:
        return LOADERS[stack.form].from_config(config, **options)
    return AutoModel.from_config(config, **options, **stack.headless_options)
