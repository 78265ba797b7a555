"""Tiny real models of every family, and cells on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from bench import matrix, toy
from bench.cells import Cell
from bench.stack import Batch

torch.set_num_threads(1)  # models this small lose more to the second thread than it gives

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
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}

# every architecture the stacks walk, with the settings that make its walk special
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: BertForMaskedLM(BertConfig(**ENCODER, type_vocab_size=2)),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**ENCODER, type_vocab_size=1, pad_token_id=1)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2, **NO_DROPOUT)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=4)),
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(**LLAMA, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    ),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**LLAMA, head_dim=8)),
}


def tiny(family: str) -> PreTrainedModel:
    torch.manual_seed(1)
    return MODELS[family]().eval()


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
        eligible=text & (position > 0) & (position < length - 2),
        segments=torch.zeros_like(ids),
        answer=length[:, 0] - 1,
        labels=torch.arange(len(lengths)) % classes,
        keys=torch.arange(len(lengths)) + 100,
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained encoder that knows the built-in language, as a folder of a user's would be."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny-encoder"
    tokens = toy.tokenizer("toy-encoder")
    torch.manual_seed(3)
    config = RobertaConfig(**{**ENCODER, "vocab_size": len(tokens)}, type_vocab_size=1, pad_token_id=1)
    model = RobertaForMaskedLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(5)  # far from zero, so that gradients are too
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


Expand = Callable[..., list[Cell]]


@pytest.fixture
def write_matrix(tmp_path: Path, checkpoint: Path) -> Callable[..., Path]:
    """A matrix file whose defaults are one small cell on the tiny checkpoint; other keys go in as they are."""

    def write(axes: dict[str, Any] | None = None, name: str = "matrix", **keys: Any) -> Path:
        base: dict[str, Any] = {
            "backbone": {"path": str(checkpoint)},
            "task": "toy-foreign-0",
            "regime": {"per_class": 8},
            "method": "full",
            "steps": 6,
            "batch_size": 8,
            "evaluate_every": 3,
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(json.dumps({"defaults": base, "axes": axes or {"seed": 0}, **keys}))  # JSON is YAML
        return file

    return write


@pytest.fixture
def expand(write_matrix: Callable[..., Path]) -> Expand:
    return lambda axes=None, **keys: matrix.load(str(write_matrix(axes, **keys))).expand()
