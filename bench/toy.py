"""The built-in world: a generated language, and two small backbones trained on it once and cached.

Each sentence draws a value for each of 4 attributes. Its words come from the pools of those values (8 % from
the wrong one), or are fillers (35 %); it ends in `answer: <word of one attribute's value>`. An encoder learns
the language by masked-word prediction, a decoder by next-word prediction. Downstream tasks ask for one
attribute, with the natural answer words or with foreign ones, which never answered anything before.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from random import Random
from typing import Any

from filelock import FileLock

from bench import files

ATTRIBUTES = 4
LAYERS = 4
HIDDEN = 128
POOL = 6  # words per value of an attribute
FILLERS = 16
LENGTHS = (8, 18)  # words in a sentence
FILLER_SHARE = 0.35
WRONG_SHARE = 0.08

# A change here is a new world: the cached backbones are keyed by it.
RECIPE: dict[str, Any] = {
    "language": [ATTRIBUTES, POOL, FILLERS, LENGTHS, FILLER_SHARE, WRONG_SHARE],
    "shape": [LAYERS, HIDDEN],
    "sentences": 64_000,
    "steps": 700,
    "batch_size": 64,
    "learning_rate": 6e-4,  # one-cycle peak; the encoder does not learn the attributes at 1.5e-3
    "betas": [0.9, 0.98],
    "initializer_range": 0.08,  # about 1/sqrt(HIDDEN); from 0.02 the encoder stays at word frequencies
    "mask_share": 0.3,  # of the words; the answer is always masked
    "seed": 20230502,
    "version": 2,
}
KINDS = {"toy-encoder": "roberta", "toy-decoder": "gpt2"}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

Progress = Callable[[int, int], None]  # (steps done, steps in all)


def fingerprint(name: str) -> str:
    return hashlib.sha256(json.dumps([name, RECIPE]).encode()).hexdigest()[:16]


# the language


def _syllables() -> list[str]:
    """Two-syllable words that no natural language owns, in a fixed order."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words = [a + b for a, b in itertools.product(syllables, syllables)]
    Random(RECIPE["seed"]).shuffle(words)
    return words


def vocabulary() -> dict[str, Any]:
    """`pools` [attribute][value][word], `answers` [attribute][value], `fillers`; all words differ."""
    words = iter(_syllables())

    def take(count: int) -> list[str]:
        return list(itertools.islice(words, count))

    pools = [[take(POOL), take(POOL)] for _ in range(ATTRIBUTES)]
    answers = [take(2) for _ in range(ATTRIBUTES)]
    return {"pools": pools, "answers": answers, "fillers": take(FILLERS)}


def sentences(count: int, seed: int | str) -> list[tuple[str, list[int]]]:
    """`count` sentences without their answer, each with the values of its attributes."""
    words, random = vocabulary(), Random(seed)
    made: list[tuple[str, list[int]]] = []
    for _ in range(count):
        values = [random.randrange(2) for _ in range(ATTRIBUTES)]
        text: list[str] = []
        for _ in range(random.randint(*LENGTHS)):
            if random.random() < FILLER_SHARE:
                text.append(random.choice(words["fillers"]))
                continue
            attribute = random.randrange(ATTRIBUTES)
            wrong = random.random() < WRONG_SHARE
            text.append(random.choice(words["pools"][attribute][values[attribute] ^ wrong]))
        made.append((" ".join(text), values))
    return made


def examples(attribute: int, split: str) -> list[dict[str, Any]]:
    """The labelled sentences of a downstream task: fields sentence and label."""
    count = {"train": 2000, "test": 500}[split]
    made = sentences(count, f"{RECIPE['seed']}/{attribute}/{split}")
    return [{"sentence": text, "label": values[attribute]} for text, values in made]


def answer_words(attribute: int, natural: bool) -> tuple[str, str]:
    """The words for label 0 and 1. The foreign ones are words of sentences, which never followed `answer:`."""
    words = vocabulary()
    zero, one = words["answers"][attribute] if natural else [pool[0] for pool in words["pools"][attribute]]
    return zero, one


# the backbones


def folder(name: str) -> Path:
    return files.cache() / f"{name}-{fingerprint(name)}"


def ensure(name: str, progress: Progress | None = None) -> Path:
    """The checkpoint of `name`, trained now if it is not in the cache yet. Concurrent starts train it once."""
    done = folder(name)
    if done.is_dir():
        return done
    done.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{done}.lock"):
        if not done.is_dir():
            partial = done.with_suffix(f".{os.getpid()}.partial")
            try:
                _train(name, partial, progress)
                partial.rename(done)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return done


def tokenizer(name: str) -> Any:
    """One token a word, in the form `from_pretrained` reads; only the encoder closes a text."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = vocabulary()
    flat = [w for pair in words["pools"] for pool in pair for w in pool]
    flat += [w for pair in words["answers"] for w in pair] + words["fillers"] + ["answer:"]
    ids = {word: i for i, word in enumerate(SPECIAL + flat)}
    core = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    marks = [(token, ids[token]) for token in ("<s>", "</s>")]
    closing = " </s>" if KINDS[name] == "roberta" else ""
    core.post_processor = TemplateProcessing(f"<s> $A{closing}", f"<s> $A{closing} $B:0{closing}", marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token=AddedToken("<mask>", lstrip=True, special=True),
    )


def shape(name: str, vocabulary_size: int) -> Any:
    """The untrained model of `name`. No dropout: its results are then the same on any number of ranks."""
    from transformers import GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaForMaskedLM

    if KINDS[name] == "roberta":
        return RobertaForMaskedLM(
            RobertaConfig(
                vocab_size=vocabulary_size,
                hidden_size=HIDDEN,
                num_hidden_layers=LAYERS,
                num_attention_heads=4,
                intermediate_size=4 * HIDDEN,
                max_position_embeddings=66,
                type_vocab_size=1,
                initializer_range=RECIPE["initializer_range"],
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                bos_token_id=0,
                pad_token_id=1,
                eos_token_id=2,
            )
        )
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary_size,
            n_embd=HIDDEN,
            n_layer=LAYERS,
            n_head=4,
            n_positions=64,
            initializer_range=RECIPE["initializer_range"],
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        )
    )


def _train(name: str, target: Path, progress: Progress | None) -> None:
    import torch

    recipe, tokens = RECIPE, tokenizer(name)
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(recipe["seed"])
        model = shape(name, len(tokens)).train()
        ids = _corpus(tokens)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=recipe["learning_rate"],
            betas=recipe["betas"],
            weight_decay=0.01,
            fused=True,
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe["learning_rate"], recipe["steps"])
        for step in range(recipe["steps"]):
            batch = ids[torch.randint(len(ids), (recipe["batch_size"],))]
            batch = batch[:, : int((batch != tokens.pad_token_id).sum(1).max())]
            inputs, labels = _masked(batch, tokens) if KINDS[name] == "roberta" else (batch, batch)
            labels = labels.masked_fill(batch == tokens.pad_token_id, -100)
            mask = batch != tokens.pad_token_id
            loss = model(input_ids=inputs, attention_mask=mask, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            cycle.step()
            if progress is not None:
                progress(step + 1, recipe["steps"])
    model.save_pretrained(target)
    tokens.save_pretrained(target)


@contextlib.contextmanager
def _one_thread() -> Generator[None, None, None]:
    """The sums of several threads round in other ways, and make another backbone in hundreds of steps."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _corpus(tokens: Any) -> Any:
    """[sentences, longest] int64: every sentence with one attribute's answer, padded."""
    import torch

    random, answers = Random(RECIPE["seed"] + 1), vocabulary()["answers"]
    texts: list[str] = []
    for text, values in sentences(RECIPE["sentences"], RECIPE["seed"]):
        attribute = random.randrange(ATTRIBUTES)
        texts.append(f"{text} answer: {answers[attribute][values[attribute]]}")
    rows = tokens(texts)["input_ids"]
    longest = max(map(len, rows))
    return torch.tensor([row + [tokens.pad_token_id] * (longest - len(row)) for row in rows])


def _masked(batch: Any, tokens: Any) -> tuple[Any, Any]:
    """Masked inputs and the labels of what was masked: words at `mask_share`, and every answer."""
    import torch

    chosen = torch.rand(batch.shape) < RECIPE["mask_share"]
    chosen &= batch >= len(SPECIAL)
    answer = (batch != tokens.pad_token_id).sum(1) - 2  # the last token is </s>
    rows = torch.arange(len(batch))
    chosen[rows, answer] = True
    return batch.masked_fill(chosen, tokens.mask_token_id), batch.masked_fill(~chosen, -100)


if __name__ == "__main__":
    ensure(sys.argv[1], lambda step, steps: print(f"{step}/{steps}", flush=True) if step % 10 == 0 else None)
