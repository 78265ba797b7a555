"""Prompt sources against the loops they stand for."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from tiny_models import HIDDEN, batch_for, tiny
from torch import nn

from bench.methods.modules.prompt_encoders import Insert, Naive, SoftPrompt, adaptive_pool
from bench.models.stack import Stream
from bench.models.stack.families import build


@pytest.mark.parametrize("bins", [1, 3, 5, 10])
@pytest.mark.parametrize("pool", ["max", "average"])
def test_adaptive_pool_equals_the_loop_over_examples(bins: int, pool: Literal["max", "average"]) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([1, 2, 5, 7, 12])
    states = torch.randn(5, 12, 6)
    mask = torch.arange(12)[None] < lengths[:, None]
    layer = nn.AdaptiveMaxPool1d(bins) if pool == "max" else nn.AdaptiveAvgPool1d(bins)
    loop = torch.stack([layer(row[:n].T[None])[0].T for row, n in zip(states, lengths.tolist(), strict=True)])
    difference = (adaptive_pool(states, mask, bins, pool) - loop).abs().max().item()
    assert difference < 1e-6, difference


def test_naive_generator_reads_first_token_of_encoders_and_last_of_decoders() -> None:
    states, mask = torch.randn(2, 6, HIDDEN), torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]).bool()
    # two prompt tokens lead, so the texts are 4 and 2 tokens long
    stream = Stream(states, mask, prompt_tokens=2)
    for causal, read in ((False, states[:, 2]), (True, torch.stack([states[0, 5], states[1, 3]]))):
        source = Naive(3, HIDDEN, 8, 0.0, causal)
        expected = source.up(torch.relu(source.down(read))).view(2, 3, HIDDEN)
        assert torch.equal(source(stream), expected)


def test_prompts_go_in_front_and_add_up() -> None:
    model = tiny("bert")
    batch, stack = batch_for(model), build(model)
    first, second = SoftPrompt.normal(2, HIDDEN, 1.0), SoftPrompt.normal(3, HIDDEN, 1.0)
    stream = stack.walk(stack.enter(batch), [Insert(first, 1), Insert(second, 1)], stop=1)
    assert stream.prompt_tokens == 0
    edited = Insert(second, 1)(1, Insert(first, 1)(1, stream))
    assert edited.prompt_tokens == 5
    assert torch.equal(edited.states[0, :5], torch.cat([second.prompt, first.prompt]))
    assert torch.equal(edited.text, stream.states)
    assert edited.mask[:, :5].all() and torch.equal(edited.mask[:, 5:], batch.text_mask)
