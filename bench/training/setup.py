"""From a cell to what it trains: the model, freshly loaded and initialised from its seed, and its tokens."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from bench.core.seeds import stream_seed
from bench.data.batches import EVALUATION_BATCH, collate
from bench.data.splits import Example, Splits, split
from bench.data.templates import Encoded, Templater, tokenizer
from bench.data.verbalizers import answer_ids, tokens_of
from bench.matrix.cell import Cell, identity_json
from bench.methods.tuned_model import TunedModel
from bench.models.stack import Batch, Stack
from bench.models.stack.compiled import compile_layers
from bench.models.stack.families import load
from bench.models.stack.shaped import load_random
from bench.models.vocabulary import Vocabulary
from bench.training import random_tokens
from bench.training.engine import DTYPES, Partitioning

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Encodings:
    """The examples of a cell as tokens."""

    train: list[Encoded]
    dev: list[Encoded]
    test: list[Encoded]
    splits: Splits
    answer_ids: list[int]
    vocabulary: Vocabulary
    templater: Templater | None  # None: there are no texts, only tokens

    def batch(self, examples: Sequence[Encoded], ids: list[int], keys: list[int], device: torch.device) -> Batch:
        """Those of `examples`, in this order."""
        return collate([examples[i] for i in ids], self.vocabulary.pad, keys, ids, device)


def prepare(cell: Cell, device: torch.device = CPU) -> tuple[TunedModel, Encodings]:
    """The model of a cell, freshly loaded and initialised from its seed, and its data. Collective under ZeRO-3.

    On `device` where its weights are random: what a checkpoint has, the engine moves there.
    """
    partitioning = Partitioning.of(cell)
    if cell.cost_only:
        weights = stream_seed(cell.seed_of("init"), "weights")
        stack = load_random(cell.backbone, DTYPES[cell.precision], device, weights, partitioning, cell.attention)
        encodings = draw(cell, stack, EVALUATION_BATCH * cell.ranks)
    else:
        location = cell.backbone.checkpoint
        stack = load(cell.backbone, location, partitioning, cell.attention)
        plain = cell.head.kind == "linear"
        length = min(cell.max_length, stack.max_text)
        encodings = encode(cell, location, plain, length, stack.word_embeddings.num_embeddings)
    tuned = assemble(cell, stack, encodings.vocabulary, encodings.answer_ids, partitioning)
    return tuned, encodings


def assemble(
    cell: Cell,
    stack: Stack,
    words: Vocabulary,
    answer_ids: list[int],
    partitioning: Partitioning | None = None,
) -> TunedModel:
    """The cell's method and head on `stack`, initialised from its seed. ValueError where the method trains nothing."""
    own = {id(parameter) for parameter in stack.parameters()}
    with torch.random.fork_rng(devices=[]), partitioning.attaching() if partitioning else nullcontext():
        torch.manual_seed(stream_seed(cell.seed_of("init"), "init"))
        attachment = cell.method.attach(stack, words)
        head = cell.head.build(stack, answer_ids)
    if cell.compile:
        compile_layers(stack)
    tuned = TunedModel(stack, attachment, head, cell.lower_dropout, cell.checkpointing, own)
    if not cell.method.trains_head_only and all(name.startswith("head.") for name in tuned.trainable()):
        raise ValueError(f"method: {cell.method.label} trains nothing but the head on {cell.backbone.label}")
    return tuned


def draw(cell: Cell, stack: Stack, each: int) -> Encodings:
    """Random tokens for a cost-only cell; `each`: examples of dev and of test."""
    words = random_tokens.vocabulary(stack.config, stack.word_embeddings.num_embeddings)
    made = random_tokens.examples(cell, words.ordinary, min(cell.max_length, stack.max_text), each)
    texts = {split: [Example((), one.label) for one in encoded] for split, encoded in made.items()}
    splits = Splits(**texts, parts={}, chosen=([], []), sample="", data="", origin="random")
    return Encodings(**made, splits=splits, answer_ids=[*random_tokens.ANSWERS], vocabulary=words, templater=None)


def vocabulary(cell: Cell, location: str, rows: int) -> Vocabulary:
    """`rows`: of the word embeddings; some tokenizers know more tokens."""
    tokens = tokenizer(location, cell.backbone.revision)
    return Vocabulary(
        classes=[tokens_of(tokens, word) for word in cell.task.words],
        ordinary=ordinary(location, cell.backbone.revision, rows),
        pad=tokens.pad_token_id if tokens.pad_token_id is not None else 0,
        mask=tokens.mask_token_id,
    )


@functools.lru_cache(maxsize=8)
def ordinary(location: str, revision: str | None, rows: int) -> tuple[int, ...]:
    """Every token that is no special one."""
    tokens = tokenizer(location, revision)
    special = set(tokens.all_special_ids)
    return tuple(i for i in range(min(len(tokens), rows)) if i not in special)


KEPT = 8  # test sets, of this process
_encoded: dict[str, list[Encoded]] = {}  # of this process, by task, backbone, head and split


def encode(cell: Cell, location: str, plain: bool, max_length: int, rows: int) -> Encodings:
    """The cell's examples as tokens. Dev and test of a cell are often those of the cell before."""
    tokens = tokenizer(location, cell.backbone.revision)
    templater = Templater(cell.task, tokens, cell.backbone.form, plain, max_length)
    splits = split(cell.task, cell.regime, cell.seed_of("sample"))
    same = f"{identity_json(cell.task)}{identity_json(cell.backbone)}{plain}{max_length}{splits.data}"

    def of(examples: Sequence[Example], kept_as: str | None = None) -> list[Encoded]:
        if kept_as is not None and (key := f"{same}{kept_as}") in _encoded:
            return _encoded[key]
        made = templater.encode_all([one.texts for one in examples], [one.label for one in examples])
        if kept_as is not None:
            if len(_encoded) == KEPT:
                _encoded.pop(next(iter(_encoded)))
            _encoded[f"{same}{kept_as}"] = made
        return made

    words = range(len(cell.task.words))
    return Encodings(
        train=of(splits.train),
        dev=of(splits.dev),
        test=of(splits.test, "test"),
        splits=splits,
        answer_ids=[*words] if plain else answer_ids(cell.task, cell.backbone, tokens),
        vocabulary=vocabulary(cell, location, rows),
        templater=templater,
    )
