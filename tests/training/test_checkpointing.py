"""Gradient checkpointing gives the same gradients and keeps less."""

from __future__ import annotations

import torch
from tiny_models import batch_for
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from tuned_models import cases, covering_cases, passes, tuned

from bench.methods.tuned_model import TunedModel

METHODS = [
    {"kind": "full"},
    {"kind": "prompt_tuning", "length": 3},
    {"kind": "late_prompt", "depth": 1, "bottleneck": 4},
    {"kind": "prefix_tuning", "length": 3},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2, "lora_dropout": 0.1}},
]
Gradients = dict[str, Tensor]


def add_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.3  # what the rotary families keep instead of a module


def one_pass(model: TunedModel, regularizer: dict) -> tuple[Tensor, Gradients, int]:
    """The loss, every gradient, and the bytes kept for the backward besides the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    (shown,) = passes(model, batch_for(model.stack.backbone), regularizer)
    torch.manual_seed(5)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = model(shown)
    loss.backward()
    gradients = {key: p.grad for key, p in model.trainable().items() if p.grad is not None}
    return loss.detach(), gradients, sum(kept.values())


REGULARIZERS = ["none", "noise", "attack"]
ROWS = [(*case, one, dropout) for case in cases(METHODS) for one in REGULARIZERS for dropout in ("plain", "dropout")]


@covering_cases("method, family, regularizer, dropout", ROWS)
def test_the_same_loss_and_gradients_from_less_memory(
    method: dict, family: str, regularizer: str, dropout: str
) -> None:
    results = []
    for checkpointing in (False, True):
        model = tuned(family, method)
        model.stack.checkpointing = checkpointing
        if dropout == "dropout":
            add_dropout(model)
        results.append(one_pass(model.train(), {"kind": regularizer}))
    (loss, gradients, kept), (loss_again, gradients_again, kept_again) = results
    assert loss == loss_again
    assert gradients.keys() == gradients_again.keys() == model.trainable().keys()
    for key, gradient in gradients.items():
        difference = (gradient - gradients_again[key]).abs().max().item()
        assert difference == 0.0, (key, difference)
    assert kept_again < kept / 2, (kept_again, kept)


def test_layers_without_a_backward_are_not_computed_twice() -> None:
    model = tuned("roberta", {"kind": "late_prompt", "depth": 2})
    model.stack.checkpointing = True
    made = [0] * len(model.stack.layers)

    def count(depth: int):
        return lambda *_: made.__setitem__(depth, made[depth] + 1)

    for depth, layer in enumerate(model.stack.layers):
        layer.register_forward_pre_hook(count(depth))
    one_pass(model.train(), {"kind": "none"})
    assert made == [1, 1, 2]


def test_a_cell_asks_for_it(expand) -> None:
    plain, checkpointed = expand({"checkpointing": [False, True]})
    assert not plain.checkpointing and checkpointed.checkpointing and plain.name != checkpointed.name
