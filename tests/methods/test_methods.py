"""The contract of methods and regularizers, as one table: every method x every regularizer x every family."""

from __future__ import annotations

import copy
import json
import re

import pytest
import safetensors.torch
import torch
from matrices import Expand
from pairs import covering
from tables import METHOD_TABLE, NEUTRAL_TABLE, REGULARIZER_FORMS, REGULARIZER_TABLE
from tiny_models import LAYERS, MODELS, batch_for, follow_backwards, own_forward, tiny
from torch import nn
from tuned_models import (
    CONTRACT,
    METHODS_AND_FAMILIES,
    SOME_METHODS,
    VOCABULARY,
    cases,
    covering_cases,
    method_of,
    name,
    passes,
    regularizer_of,
    tuned,
)

from bench.matrix.cell import rebuild
from bench.methods import METHODS
from bench.models.forward_passes import BatchView, ForwardPass
from bench.models.heads import HEADS, AnswerWords, Linear
from bench.models.stack.families import build
from bench.regularizers import REGULARIZERS
from bench.training.setup import assemble

# T5's decoder has one position, the same for all examples: its query changes nothing, and a unit may be off for all
INERT = re.compile(r"decoder\.block\.\d+\.(layer\.0\.SelfAttention\.([qk]\b|relative)|adapter)")


def test_tables_hold_every_kind() -> None:
    assert {method["kind"] for method in METHOD_TABLE} == set(METHODS)
    assert {type(regularizer_of(settings)) for settings in REGULARIZER_TABLE + REGULARIZER_FORMS} == set(REGULARIZERS)


def test_some_methods_are_of_the_table() -> None:
    assert all(method in METHOD_TABLE for method in SOME_METHODS)


@covering("method, family, regularizer", CONTRACT, name)
def test_contract(method: dict, family: str, regularizer: dict) -> None:
    model = tuned(family, method).train()
    batch = batch_for(model.stack.backbone)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    trainable = model.trainable()
    assert trainable
    optimizer = torch.optim.AdamW(trainable.values(), lr=1e-2)
    losses, moved = [], set()
    for _ in range(3):
        clean = None
        for shown in passes(model, batch, regularizer):
            if clean is None:
                assert all(p.grad is None for p in model.parameters()), "a regularizer left a gradient on a parameter"
            total, first = model(shown)
            total.backward()
            clean = first if clean is None else clean
        assert clean is not None
        for key, parameter in model.named_parameters():
            if key in trainable:
                assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            else:
                assert parameter.grad is None, f"{key} is frozen and has a gradient"
        moved |= {key for key, parameter in trainable.items() if parameter.grad.any()}
        optimizer.step()
        optimizer.zero_grad()
        losses.append(clean.item())
    assert losses[-1] < losses[0], losses
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, before[key]) or key in trainable, f"{key} is frozen and has changed"
    still = {key for key in trainable if torch.equal(model.get_parameter(key), before[key])}
    idle = trainable.keys() - moved | still
    assert all(INERT.search(key) for key in idle), idle


@METHODS_AND_FAMILIES
def test_nothing_below_the_first_trainable_depth_has_a_backward_or_dropout(method: dict, family: str) -> None:
    model = tuned(family, method).train()
    lowest = model.first_trainable_depth
    reached = follow_backwards(model.stack)
    model.logits(batch_for(model.stack.backbone))
    assert reached == [depth >= lowest for depth in range(LAYERS)]
    assert [layer.training for layer in model.stack.layers] == [depth >= lowest for depth in range(LAYERS)]


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("method", [{"kind": "late_prompt", "depth": 2}, {"kind": "linear_probe"}], ids=name)
def test_what_lies_below_is_the_same_twice_in_training_unless_lower_dropout_is_asked_for(
    method: dict, family: str
) -> None:
    """So it may be cached."""
    model = tuned(family, method)
    noisy = False
    for module in model.stack.modules():
        if isinstance(module, nn.Dropout):
            module.p, noisy = 0.5, True
    batch, depth = batch_for(model.stack.backbone), model.first_trainable_depth
    model.train()
    assert torch.equal(model.prefix_states(batch, depth).stream.states, model.prefix_states(batch, depth).stream.states)
    model.lower_dropout = True
    model.train()
    again = torch.equal(
        model.prefix_states(batch, depth).stream.states, model.prefix_states(batch, depth).stream.states
    )
    assert again != noisy, "OPT and the Llama-like keep no module for dropout"


@pytest.mark.parametrize(
    "method",
    [
        {"kind": "peft", "config": {"peft_type": "LORA", "inference_mode": True}},
        {"kind": "peft", "config": {"peft_type": "LORA", "target_modules": ["lm_head.dense"]}},
    ],
    ids=name,
)
def test_a_method_that_trains_nothing_is_refused(method: dict, expand: Expand) -> None:
    (cell,) = expand({"method": [method], "head": ["linear"]})
    with pytest.raises(ValueError, match="trains nothing but the head"):
        assemble(cell, build(tiny("roberta")), VOCABULARY, [7, 8])


@pytest.mark.parametrize("method", METHOD_TABLE, ids=name)
def test_first_trainable_depth_is_the_lowest_that_gives_the_exact_gradients(method: dict) -> None:
    """The same gradients with a backward through everything."""
    model, gradients = tuned("roberta", method), []
    batch = batch_for(model.stack.backbone)
    for gradient_from in (None, -1):
        logits = model.logits(batch, gradient_from=gradient_from)
        gradients.append(torch.autograd.grad(model.loss(logits, batch), list(model.trainable().values())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("method", METHOD_TABLE, ids=name)
def test_settings_survive_yaml_and_json(method: dict, expand: Expand) -> None:
    head = method_of(method).heads[0]
    (cell,) = expand({"method": [method], "head": [head]})
    again = rebuild(json.loads(json.dumps(cell.content())))
    assert again == cell and again.name == cell.name
    assert again.method == method_of(method)


@METHODS_AND_FAMILIES
def test_every_trainable_has_a_gradient_under_the_methods_other_head(method: dict, family: str) -> None:
    """The contract tests the first."""
    model = tuned(family, method, HEADS[method_of(method).heads[-1]]()).train()
    batch = batch_for(model.stack.backbone)
    model(ForwardPass((BatchView(batch),)))[0].backward()
    without = [key for key, parameter in model.trainable().items() if parameter.grad is None]
    assert not without, without


@METHODS_AND_FAMILIES
def test_the_trainables_alone_bring_a_trained_model_back(method: dict, family: str) -> None:
    """Through safetensors. The same under ZeRO-3 is in zero_script.py."""
    model = tuned(family, method)
    batch = batch_for(model.stack.backbone)
    model(ForwardPass((BatchView(batch),)))[0].backward()
    for parameter in model.trainable().values():
        parameter.data -= 0.1 * parameter.grad
    saved = safetensors.torch.load(safetensors.torch.save(model.trainable()))
    again = tuned(family, method)
    copied = copy.deepcopy(again)
    for other in (again, copied):
        missing, unexpected = other.load_state_dict(saved, strict=False)
        assert not unexpected and not set(missing) & set(model.trainable())
        assert torch.equal(model.eval().logits(batch), other.eval().logits(batch))


@covering_cases("method, family", cases(NEUTRAL_TABLE))
def test_starts_as_the_backbone(method: dict, family: str) -> None:
    started, plain = tuned(family, method).eval(), tuned(family, {"kind": "full"}).eval()
    batch = batch_for(plain.stack.backbone)
    difference = (started.logits(batch) - plain.logits(batch)).abs().max().item()
    assert difference < 1e-6, difference


@pytest.mark.parametrize("family", MODELS)
def test_answer_head_equals_the_backbones_logits_at_the_answer(family: str) -> None:
    model = tiny(family)
    batch = batch_for(model)
    _, theirs = own_forward(model, batch)
    for loss, columns in (("vocabulary", slice(None)), ("answer_words", [7, 8])):
        ours = tuned(family, {"kind": "full"}, AnswerWords(loss=loss)).eval()
        logits = ours.logits(batch)
        assert torch.allclose(logits, theirs[:, columns], atol=1e-5)
        assert torch.allclose(ours.head.scores(logits), theirs[:, [7, 8]], atol=1e-5)
        expected = nn.functional.cross_entropy(theirs[:, columns], ours.head.targets(batch))
        assert torch.allclose(ours.loss(logits, batch), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
@pytest.mark.parametrize("pooling", ["first", "last", "mean", None])
def test_linear_head_pools_the_text_only(family: str, pooling) -> None:
    model = tuned(family, {"kind": "prompt_tuning", "length": 3}, Linear(pooling=pooling)).eval()
    batch = batch_for(model.stack.backbone)
    states = model.stack.final_norm(model.stack.run(batch, model.edits).text)
    last = batch.text_mask.sum(1) - 1
    pooled = {
        "first": states[:, 0],
        "last": states[torch.arange(3), last],
        "mean": torch.stack([row[: n + 1].mean(0) for row, n in zip(states, last, strict=True)]),
    }[pooling or ("last" if family == "gpt2" else "first")]
    assert torch.allclose(model.logits(batch), model.head.linear(pooled), atol=1e-5)
