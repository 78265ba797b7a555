"""Trains the built-in backbones on the built-in language."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch

from bench.models.toy.language import SEED, answered
from bench.models.toy.models import KINDS, SPECIAL, shape, tokenizer

Progress = Callable[[int, int], None]  # (steps done, steps in all)


@dataclass(frozen=True)
class Recipe:
    sentences: int = 64_000
    steps: int = 700
    batch_size: int = 64
    learning_rate: float = 6e-4  # one-cycle peak; the encoder does not learn the attributes at 1.5e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clipping: float = 1.0
    mask_share: float = 0.3  # of the words; the answer is always masked
    seed: int = SEED


RECIPE = Recipe()


def train(name: str, steps: int | None = None, progress: Progress | None = None) -> tuple[Any, Any, list[float]]:
    """The model in fp32, its tokenizer, and the loss of each step. With `steps`, RECIPE is left after that many.

    On one thread: several round their sums in other ways, which makes another backbone in hundreds of steps.
    """
    recipe, tokens = RECIPE, tokenizer(name)
    count = recipe.steps if steps is None else min(steps, recipe.steps)
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(recipe.seed)
        model = shape(name, len(tokens)).train()
        texts = answered(recipe.sentences, recipe.seed, recipe.seed + 1)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.steps)
        for step in range(count):
            chosen = torch.randint(len(texts), (recipe.batch_size,)).tolist()
            loss = loss_of(name, model, tokens, padded(tokens, [texts[i] for i in chosen]))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clipping)
            optimizer.step()
            cycle.step()
            losses.append(loss.item())
            if progress is not None:
                progress(step + 1, count)
    return model.eval(), tokens, losses


def loss_of(name: str, model: Any, tokens: Any, batch: Any) -> Any:
    """Of predicting masked words (encoder; drawn from torch's generator) or each next word (decoder)."""
    inputs, labels = _masked(batch, tokens) if KINDS[name] == "roberta" else (batch, batch)
    mask = batch != tokens.pad_token_id
    return model(input_ids=inputs, attention_mask=mask, labels=labels.masked_fill(~mask, -100)).loss


def padded(tokens: Any, texts: list[str]) -> Any:
    """[texts, longest] int64."""
    rows = tokens(texts)["input_ids"]
    longest = max(map(len, rows))
    return torch.tensor([row + [tokens.pad_token_id] * (longest - len(row)) for row in rows])


@contextlib.contextmanager
def one_thread() -> Generator[None, None, None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _masked(batch: Any, tokens: Any) -> tuple[Any, Any]:
    """Masked inputs and the labels of what was masked: words at `mask_share`, and every answer."""
    chosen = torch.rand(batch.shape) < RECIPE.mask_share
    chosen &= batch >= len(SPECIAL)
    answer = (batch != tokens.pad_token_id).sum(1) - 2  # the last token is </s>
    rows = torch.arange(len(batch))
    chosen[rows, answer] = True
    return batch.masked_fill(chosen, tokens.mask_token_id), batch.masked_fill(~chosen, -100)
