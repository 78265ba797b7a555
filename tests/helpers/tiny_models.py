"""Tiny real models of every family, batches for them, and what their own forward gives."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from bench.models.stack import Batch, Stack

VOCABULARY, HIDDEN, LAYERS = 97, 32, 3
ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": 4, "n_positions": 48}
DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "conv_kernel_size": 3,
    "type_vocab_size": 0,
}
OPT = {
    **{name: ENCODER[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")},
    "ffn_dim": 64,
    "max_position_embeddings": 48,
    "dropout": 0.0,
    "word_embed_proj_dim": HIDDEN,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": HIDDEN,
    "num_layers": LAYERS,
    "num_heads": 4,
    "d_kv": 8,
    "d_ff": 64,
    "dropout_rate": 0.0,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "decoder_start_token_id": 0,
    "initializer_factor": 0.2,  # at 1 the logits are so large that every loss is at an end
}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}

# every architecture the stacks walk, with the settings that make its walk special
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**ENCODER, type_vocab_size=2)),
    "roberta": lambda: transformers.RobertaForMaskedLM(
        transformers.RobertaConfig(**ENCODER, type_vocab_size=1, pad_token_id=1)
    ),
    "albert": lambda: transformers.AlbertForMaskedLM(
        transformers.AlbertConfig(**ENCODER, embedding_size=16, pad_token_id=0)
    ),
    "deberta": lambda: transformers.DebertaV2ForMaskedLM(transformers.DebertaV2Config(**ENCODER, **DEBERTA)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2, **NO_DROPOUT)),
    "opt": lambda: transformers.OPTForCausalLM(transformers.OPTConfig(**OPT)),
    "opt-350m": lambda: transformers.OPTForCausalLM(
        transformers.OPTConfig(**OPT | {"word_embed_proj_dim": 16}, do_layer_norm_before=False)
    ),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)),
    "mistral": lambda: transformers.MistralForCausalLM(transformers.MistralConfig(**LLAMA, sliding_window=4)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(**LLAMA, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    ),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**LLAMA, head_dim=8)),
    "gemma": lambda: transformers.GemmaForCausalLM(transformers.GemmaConfig(**LLAMA, head_dim=16)),
    "t5": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)),
    "t5-v1.1": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    ),
}


def tiny(family: str) -> PreTrainedModel:
    model, state = made(family)
    torch.set_rng_state(state)
    return copy.deepcopy(model)


@functools.cache
def made(family: str) -> tuple[PreTrainedModel, torch.Tensor]:
    """Once; and the state of the random numbers after it."""
    torch.manual_seed(1)
    return MODELS[family]().eval(), torch.get_rng_state()


def batch_for(model: PreTrainedModel, lengths: tuple[int, ...] = (9, 12, 5), classes: int = 2) -> Batch:
    """Random token ids, padded on the right with the model's padding id; the words in the middle are eligible."""
    generator = torch.Generator().manual_seed(2)
    pad = model.config.pad_token_id or 0
    width = max(lengths)
    ids = torch.randint(5, VOCABULARY, (len(lengths), width), generator=generator)
    position = torch.arange(width)[None]
    length = torch.tensor(lengths)[:, None]
    text = position < length
    return Batch(
        ids=ids.masked_fill(~text, pad),
        text_mask=text,
        perturbable_mask=text & (position > 0) & (position < length - 2),
        segments=torch.zeros_like(ids),
        answer=length[:, 0] - 1,
        labels=torch.arange(len(lengths)) % classes,
        noise_seeds=torch.arange(len(lengths)) + 100,
        example_ids=torch.arange(len(lengths)),
    )


def own_forward(model: PreTrainedModel, batch: Batch) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """The backbone's own hidden states [B, T, H] of every depth, and its logits [B, V] at the answer."""
    options: dict[str, Any] = {"input_ids": batch.ids, "attention_mask": batch.text_mask.long()}
    if model.config.is_encoder_decoder:
        start = torch.full_like(batch.ids[:, :1], model.config.decoder_start_token_id)
        out = model(**options, decoder_input_ids=start, output_hidden_states=True)
        return out.encoder_hidden_states, out.logits[:, 0]
    out = model(**options, output_hidden_states=True)
    return out.hidden_states, out.logits[torch.arange(len(batch.ids)), batch.answer]


def follow_backwards(stack: Stack) -> list[bool]:
    """Of each layer, whether what it gave in the last pass records a backward."""
    reached = [False] * len(stack.layers)

    def follow(depth: int) -> None:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            reached[depth] = (output if isinstance(output, torch.Tensor) else output[0]).requires_grad

        stack.layers[depth].register_forward_hook(hook)

    for depth in range(len(reached)):
        follow(depth)
    return reached
