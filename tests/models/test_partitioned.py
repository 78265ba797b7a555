"""Loading under ZeRO-3, on ranks of the real deepspeed launcher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import LLAMA, tiny
from transformers import BertModel, LlamaConfig, LlamaForCausalLM

from bench.models import toy


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(change({name: tensor.clone() for name, tensor in load_file(file).items()}), file, {"format": "pt"})


def legacy(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the first BERT files are: other names in the norms, and both of the tied weights."""
    renamed = {k.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): v for k, v in weights.items()}
    return renamed | {"cls.predictions.decoder.weight": weights["bert.embeddings.word_embeddings.weight"].clone()}


def write_checkpoints(folder: Path) -> None:
    for family in ("bert", "roberta", "gpt2", "llama"):
        tiny(family).save_pretrained(folder / family)
    tiny("llama").save_pretrained(folder / "sharded", max_shard_size="20KB")
    BertModel(tiny("bert").config, add_pooling_layer=True).save_pretrained(folder / "headless")
    tiny("bert").save_pretrained(folder / "legacy")
    rewrite(folder / "legacy", legacy)
    tiny("gpt2").save_pretrained(folder / "differ")  # says tied, but has two
    rewrite(folder / "differ", lambda w: w | {"lm_head.weight": w["transformer.wte.weight"] + 1})
    tiny("gpt2").save_pretrained(folder / "lacking")
    rewrite(folder / "lacking", lambda w: {k: v for k, v in w.items() if k != "transformer.h.1.attn.c_attn.weight"})
    tiny("gpt2").save_pretrained(folder / "misshapen")
    rewrite(folder / "misshapen", lambda w: w | {"transformer.ln_f.weight": torch.ones(5)})
    torch.manual_seed(0)
    shape = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 8}
    LlamaForCausalLM(LlamaConfig(**{**LLAMA, **shape})).save_pretrained(folder / "large")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of all."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoints(folder)
    return str(folder)


# on two ranks: see zero_load_script.py, which measures and compares

FAMILIES = ["bert", "roberta", "gpt2", "llama"]
UNUSUAL = ["sharded", "headless", "legacy", "differ"]


def test_a_backbone_is_partitioned_from_the_start_and_never_whole_on_one_rank(checkpoints: str, ranks) -> None:
    measured = ranks.call(2, "zero_load_script:check_memory", checkpoints)
    assert len(measured) == 2 and all(rank["tensors"] < 0.7 * rank["whole"] for rank in measured), measured


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "fp32") for name in FAMILIES + UNUSUAL), *((name, "bf16") for name in FAMILIES)],
)
def test_a_partitioned_load_is_an_ordinary_one(name: str, precision: str, checkpoints: str, ranks) -> None:
    ranks.call(2, "zero_load_script:check_equal", checkpoints, name, precision)


@pytest.mark.parametrize("name", toy.KINDS)
def test_a_partitioned_load_of_fp16_weights_is_an_ordinary_one(name: str, ranks) -> None:
    """As the built-in backbones are stored."""
    ranks.call(2, "zero_load_script:check_equal", str(toy.folder(name).parent), name, "fp32")


@pytest.mark.parametrize("family", FAMILIES)
def test_random_weights_are_drawn_in_parts(family: str, checkpoints: str, ranks) -> None:
    ranks.call(2, "zero_load_script:check_random", checkpoints, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_partitioned_backbone_trains_as_a_whole_one(family: str, checkpoints: str, ranks) -> None:
    ranks.call(2, "zero_load_script:check_trained", checkpoints, family)


def test_a_checkpoint_that_lacks_a_weight_is_named_on_all_ranks(checkpoints: str, ranks) -> None:
    ranks.call(2, "zero_load_script:check_errors", checkpoints)
