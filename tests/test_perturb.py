"""Perturbations touch what they may, draw the same everywhere, and attacks raise the loss inside their ball."""

from __future__ import annotations

import pytest
import torch
from conftest import MODELS, batch_for, tiny
from test_methods import tuned

from bench.perturb.attack import Attack, length
from bench.perturb.base import Shift
from bench.perturb.noise import Noise
from bench.stack import WORDS, Batch, Stream
from bench.stack.families import build


def delta_of(view) -> torch.Tensor:
    """The perturbation of a view, wherever it is applied."""
    return view.batch.shift if view.batch.shift is not None else view.edits[0].delta


@pytest.mark.parametrize("depth", ["words", 0, 2])
@pytest.mark.parametrize("kind", [Noise, Attack])
def test_only_eligible_tokens_are_touched(kind, depth) -> None:
    model = tuned("roberta", {"kind": "prompt_tuning", "length": 3})
    batch = batch_for(model.stack.backbone)
    delta = delta_of(kind(depth=depth).view(model, batch))
    assert torch.equal(delta.abs().sum(-1) > 0, batch.eligible)
    assert not delta.requires_grad


def test_noise_has_its_sigma() -> None:
    model = tuned("roberta", {"kind": "full"})
    batch = batch_for(model.stack.backbone, (48,) * 40)
    values = delta_of(Noise(sigma=0.3).view(model, batch))[batch.eligible]
    # the standard error of a standard deviation of n values is sigma / sqrt(2 n)
    error = abs(values.std().item() - 0.3)
    assert error < 5 * 0.3 / (2 * values.numel()) ** 0.5, (error, values.numel())


@pytest.mark.parametrize("regularizer", [Noise(), Attack()], ids=["noise", "attack"])
def test_an_example_draws_the_same_alone_and_among_others(regularizer) -> None:
    """So it does on any number of ranks: its seed is its own, and padding draws nothing."""
    model = tuned("roberta", {"kind": "prompt_tuning", "length": 3})
    batch = batch_for(model.stack.backbone)
    together = delta_of(regularizer.view(model, batch))
    for i in range(3):
        n = int(batch.text_mask[i].sum())
        fields = {
            k: v[i : i + 1, :n] if v.dim() == 2 else v[i : i + 1] for k, v in vars(batch).items() if v is not None
        }
        alone = delta_of(regularizer.view(model, Batch(**fields)))
        difference = (alone[0] - together[i, :n]).abs().max().item()
        assert difference < 1e-5, (i, difference)


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("depth", ["words", 1])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_attack_stays_in_its_ball_and_raises_the_loss(norm, depth, family: str) -> None:
    model = tuned(family, {"kind": "late_prompt", "depth": 1, "generator": "none"})
    batch = batch_for(model.stack.backbone)
    radius = 0.5 if norm == "l2" else 0.05
    attack = Attack(norm=norm, depth=depth, steps=4, step_size=radius, radius=radius, initial=0.0)
    view = attack.view(model, batch)
    assert (length(delta_of(view), norm) <= radius * (1 + 1e-5)).all()
    clean = model.loss(model.logits(batch), batch, reduction="sum")
    attacked = model.loss(model.logits(view.batch, view.edits), view.batch, reduction="sum")
    assert attacked > clean, (attacked.item(), clean.item())


def test_without_a_radius_the_attack_steps_by_its_step_size() -> None:
    model = tuned("roberta", {"kind": "full"})
    batch = batch_for(model.stack.backbone)
    attack = Attack(radius=0, steps=1, step_size=0.7, initial=0.0)
    assert torch.allclose(length(delta_of(attack.view(model, batch)), "l2"), torch.tensor(0.7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_gradient_of_zero_moves_nothing(norm, dtype: torch.dtype) -> None:
    zero = torch.zeros(2, 3, 4, dtype=dtype)
    moved = Attack(norm=norm).ascend(zero, zero, torch.ones(2, 3, dtype=torch.bool))
    assert moved.dtype == dtype and torch.equal(moved, zero)


def test_attack_restores_training_mode_and_runs_in_eval() -> None:
    model = tuned("roberta", {"kind": "late_prompt", "depth": 2}).train()
    seen: list[bool] = []
    model.stack.layers[2].register_forward_pre_hook(lambda module, _: seen.append(module.training))
    Attack(steps=2).view(model, batch_for(model.stack.backbone))
    assert seen == [False, False]
    assert model.training and model.stack.layers[2].training and not model.stack.layers[1].training


def test_attack_at_a_depth_runs_the_layers_below_once() -> None:
    model = tuned("roberta", {"kind": "late_prompt", "depth": 2})
    calls = [0, 0, 0]

    def count(depth: int):
        def hook(*_: object) -> None:
            calls[depth] += 1

        return hook

    for depth, layer in enumerate(model.stack.layers):
        layer.register_forward_hook(count(depth))
    Attack(depth=2, steps=3).view(model, batch_for(model.stack.backbone))
    assert calls == [1, 1, 3]


def test_shift_leaves_the_prompt_alone() -> None:
    stack = build(tiny("bert"))
    states = torch.randn(2, 7, stack.hidden)
    stream = Stream(states, torch.ones(2, 7, dtype=torch.bool), prompt_tokens=3)
    delta = torch.ones(2, 4, stack.hidden)
    shifted = Shift(1, delta)(1, stream)
    assert torch.equal(shifted.states[:, :3], states[:, :3])
    assert torch.equal(shifted.text, stream.text + 1)
    assert Shift(1, delta)(0, stream) is stream


def test_a_shift_of_the_words_is_what_other_words_give() -> None:
    """The perturbation comes before positions and norm."""
    model = tiny("roberta")
    stack, batch = build(model), batch_for(model)
    target = batch.ids.flip(0)
    difference = stack.word_embeddings(target) - stack.word_embeddings(batch.ids)
    with torch.no_grad():
        other = stack.run(Batch(**{**vars(batch), "ids": target}), gradient_from=WORDS).states
        shifted = stack.run(Batch(**{**vars(batch), "shift": difference})).states
    assert torch.allclose(other, shifted, atol=1e-5)
