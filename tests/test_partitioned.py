"""Loading under ZeRO-3, run by the real deepspeed launcher in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models import LLAMA, tiny
from safetensors.torch import load_file, save_file
from transformers import BertModel, LlamaConfig, LlamaForCausalLM


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


@pytest.mark.timeout(200)
def test_backbones_are_partitioned_from_the_start_and_never_whole_on_one_rank(tmp_path: Path) -> None:
    """On two ranks, every family: see zero_load_script.py, which measures and compares."""
    write_checkpoints(tmp_path)
    script = Path(__file__).with_name("zero_load_script.py")
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "2", "--master_port", "29672"]
    threshold = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what a process frees leaves its resident memory
    done = subprocess.run(
        [*command, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **threshold, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parent.parent)},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    measured = json.loads((tmp_path / "measured.json").read_text())
    assert len(measured) == 2 and all(rank["tensors"] < 0.7 * rank["whole"] for rank in measured), measured
