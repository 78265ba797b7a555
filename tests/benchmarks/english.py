"""A small encoder for measurements on real data: the built-in encoder's shape, for English, with random weights.

    python tests/benchmarks/english.py FOLDER        # some seconds; reads the train splits of $BENCH_DATA

Its tokenizer, a byte-level BPE, is made of the training texts of the tasks there. It knows nothing of any language: a
floor beside a pretrained backbone.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaForMaskedLM, RobertaTokenizerFast

from bench.data.tasks import TASKS
from bench.models import toy

VOCABULARY, POSITIONS = 8_000, 514


def texts(root: Path) -> list[str]:
    """Every text of a train split, once."""
    found: dict[str, None] = {}

    def collect(value: Any) -> None:
        if isinstance(value, str):
            found[value] = None
        elif isinstance(value, dict | list):
            for one in value.values() if isinstance(value, dict) else value:
                collect(one)

    for file in sorted(root.rglob("train.jsonl")):
        for line in file.read_text("utf-8").split("\n"):
            collect(json.loads(line) if line else None)
    return list(found)


def tokenizer(corpus: list[str], folder: Path) -> RobertaTokenizerFast:
    """Every answer word of the tasks is one token."""
    made = ByteLevelBPETokenizer(add_prefix_space=False)
    words = sorted({word for task in TASKS.values() if task.source == "auto" for word in task.words})
    repeated = [f" {word}" * 200 for word in words]
    made.train_from_iterator(corpus + repeated, VOCABULARY, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    folder.mkdir(parents=True)
    made.save_model(str(folder))
    return RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=512)


def main() -> None:
    folder = Path(sys.argv[1])
    tokens = tokenizer(texts(Path(os.environ["BENCH_DATA"])), folder)
    config = toy.shape("toy-encoder", len(tokens)).config
    config.max_position_embeddings, config.initializer_range = POSITIONS, 0.02
    torch.manual_seed(0)
    RobertaForMaskedLM(config).save_pretrained(folder)
    tokens.save_pretrained(folder)


if __name__ == "__main__":
    main()
