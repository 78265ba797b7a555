"""A small encoder for measurements on real data: the built-in encoder's shape, for English.

    python tests/english.py FOLDER        # about 10 minutes on two cores; reads train splits of $BENCH_DATA

Its tokenizer (byte-level BPE) and weights (masked-word prediction) are made of the training texts of the tasks there:
it knows words and little else, a floor beside a pretrained backbone.
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

from bench import toy
from bench.tasks import TASKS

VOCABULARY, POSITIONS = 8_000, 514
STEPS, BATCH, LENGTH, RATE, MASKED = 2_000, 48, 48, 1e-3, 0.3


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


def train(model: RobertaForMaskedLM, corpus: list[str], tokens: RobertaTokenizerFast) -> None:
    rows = tokens(corpus, truncation=True, max_length=LENGTH)["input_ids"]
    rows = [row for row in rows if len(row) > 6]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    for step in range(STEPS):
        drawn = [torch.tensor(rows[i]) for i in torch.randint(len(rows), (BATCH,)).tolist()]
        ids = torch.nn.utils.rnn.pad_sequence(drawn, batch_first=True, padding_value=tokens.pad_token_id)
        hidden = (torch.rand(ids.shape) < MASKED) & (ids > 4)
        given = ids.masked_fill(hidden, tokens.mask_token_id)
        states = model.roberta(input_ids=given, attention_mask=ids != tokens.pad_token_id).last_hidden_state
        loss = torch.nn.functional.cross_entropy(model.lm_head(states[hidden]), ids[hidden])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        cycle.step()
        if (step + 1) % 200 == 0:
            print(f"{step + 1}/{STEPS} loss {loss.item():.2f}", flush=True)


def main() -> None:
    folder = Path(sys.argv[1])
    corpus = texts(Path(os.environ["BENCH_DATA"]))
    tokens = tokenizer(corpus, folder)
    torch.manual_seed(0)
    config = toy.shape("toy-encoder", len(tokens)).config
    config.max_position_embeddings = POSITIONS
    model = RobertaForMaskedLM(config).train()
    train(model, corpus, tokens)
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)


if __name__ == "__main__":
    main()
