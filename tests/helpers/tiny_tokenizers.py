"""A tokenizer of each kind that backbones have, in its own class, trained here on all that tests and tasks write."""

from __future__ import annotations

import functools
import json
import string
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AlbertTokenizer, BertTokenizer, GPT2Tokenizer, RobertaTokenizer, T5Tokenizer

from bench.data.tasks import TASKS

# kind -> form of its backbones
FORMS = {"bert": "masked", "roberta": "masked", "albert": "masked", "gpt2": "causal", "t5": "encoder_decoder"}
TEXT = "the plot of a quiet film was bad but its great beauty and sadness grew on every viewer in town"
WORDS = TEXT.split()
LETTERS = [*string.ascii_letters, string.ascii_letters, string.ascii_letters[::-1]]
SPECIAL = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "albert": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
    "t5": ["<pad>", "</s>", "<unk>"],
    "gpt2": ["<|endoftext|>"],
}


def corpus() -> list[str]:
    """Words of tasks many times, so that each is a token where a kind has words as tokens at all."""
    templates = [t.template(form) for t in TASKS.values() for form in ("masked", "causal", "encoder_decoder")]
    literals = [text for template in templates for _, text in pieces(template)]
    answers = [word for task in TASKS.values() for word in task.words]
    return [f"a {word} , {word}" for word in [*answers, *WORDS, *literals, *LETTERS]] * 20


def pieces(template: str) -> list[tuple[str | None, str]]:
    """(field, the template's own text before it)."""
    return [(name, literal) for literal, name, _, _ in string.Formatter().parse(template)]


@functools.cache
def tiny_tokenizer(kind: str) -> Any:
    special = SPECIAL[kind]
    if kind == "bert":
        core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        core.train_from_iterator(
            corpus(), trainers.WordPieceTrainer(vocab_size=2000, special_tokens=special, show_progress=False)
        )
        return BertTokenizer(vocab=core.get_vocab())
    if kind in ("albert", "t5"):
        return sentence_piece(kind, special)
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=3000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(corpus(), trainer)
    merges = json.loads(core.to_str())["model"]["merges"]
    made = {"gpt2": GPT2Tokenizer, "roberta": RobertaTokenizer}[kind]
    return made(vocab=core.get_vocab(), merges=[tuple(merge) for merge in merges])


def sentence_piece(kind: str, special: list[str]) -> Any:
    """Unigram pieces, and each word as one: so little text does not make them such."""
    core = Tokenizer(models.Unigram())
    lower = kind == "albert"
    if lower:
        core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trainer = trainers.UnigramTrainer(vocab_size=1000, special_tokens=special, unk_token="<unk>", show_progress=False)
    core.train_from_iterator(corpus(), trainer)
    vocabulary = dict(json.loads(core.to_str())["model"]["vocab"])
    answers = [word for task in TASKS.values() for word in task.words]
    whole = [f"▁{word.lower() if lower else word}" for word in [*answers, *WORDS] if word]
    made = {"albert": AlbertTokenizer, "t5": T5Tokenizer}[kind]
    return made(vocab=list((vocabulary | dict.fromkeys(whole, -4.0)).items()))
