"""The last layer at one position gives what the whole layer gives there, and computes no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from tiny_models import HIDDEN, LAYERS, MODELS, batch_for, tiny
from torch import Tensor, nn
from tuned_models import VOCABULARY, cases, covering_cases, method_of

from bench.methods.tuned_model import TunedModel
from bench.models.heads import AnswerWords, Linear
from bench.models.stack import Batch, Stream, at
from bench.models.stack.families import build


def trained(family: str, method: dict, head: AnswerWords | Linear, attention: str = "sdpa") -> TunedModel:
    """Its trainables are far from their start: what begins as zero would agree whatever it does."""
    model = tiny(family)
    if model._can_set_attn_implementation():
        model.set_attn_implementation(attention)
    stack = build(model)
    torch.manual_seed(4)
    made = TunedModel(stack, method_of(method).attach(stack, VOCABULARY), head.build(stack, [7, 8])).eval()
    for parameter in made.trainable().values():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def answered_early(model: TunedModel, lengths: tuple[int, ...]) -> Batch:
    """The answer is not the last token, so that a decoder's does not see all."""
    batch = batch_for(model.stack.backbone, lengths)
    return replace(batch, answer=batch.answer - 1)


def with_gradients(model: TunedModel, logits: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Of all trainables; T5's decoder has zeros under a head that reads the encoder."""
    trainable, loss = model.trainable(), model.loss(logits, batch)
    gradients = torch.autograd.grad(loss, list(trainable.values()), materialize_grads=True)
    return logits.detach(), dict(zip(trainable, gradients, strict=True))


def logits_of_the_whole_layer(model: TunedModel, batch: Batch) -> Tensor:
    stream = model.stack.run(batch, model.edits, model.first_trainable_depth)
    position = model.head.position(model.stack, batch)
    if position is not None:
        stream = Stream(at(stream.text, position)[:, None], stream.mask[:, :1])
    return model.head.logits(model.stack, stream, batch)


POOLINGS: dict[str, Literal["first", "last"]] = {"sdpa": "first", "eager": "last"}


@covering_cases("attention, method, family", [(attention, *case) for attention in POOLINGS for case in cases()])
def test_logits_and_gradients_are_those_of_the_whole_layer(attention: str, method: dict, family: str) -> None:
    pooling = POOLINGS[attention]
    heads = {"answer_words": AnswerWords(), "linear": Linear(pooling=pooling)}
    for kind in method_of(method).heads:
        model = trained(family, method, heads[kind], attention)
        for lengths, checkpointing in (((9, 12, 5), True), ((8, 8), False)):  # of the second sdpa has no mask
            batch = answered_early(model, lengths)
            expected, theirs = with_gradients(model, logits_of_the_whole_layer(model, batch), batch)
            model.stack.checkpointing = checkpointing
            logits, ours = with_gradients(model, model.logits(batch), batch)
            difference = (logits - expected).abs().max().item()
            assert difference < 1e-5, f"logits differ by {difference}"
            rounding = 1e-6 * max(gradient.abs().max().item() for gradient in theirs.values())
            for key, gradient in theirs.items():
                difference = (ours[key] - gradient).abs().max().item()
                assert difference < 1e-4 * gradient.abs().max().item() + rounding, (key, difference)


METHODS = [
    {"kind": "full"},
    {"kind": "linear_probe"},
    {"kind": "late_prompt", "depth": 2, "generator": "none"},
    {"kind": "prefix_tuning", "length": 3},
    {"kind": "adapter", "reduction": 8},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}},
]
FAMILIES = [family for family in MODELS if family not in ("deberta", "t5", "t5-v1.1")]  # of which it runs whole


@covering_cases("method, family", cases(METHODS, FAMILIES))
def test_attention_and_feed_forward_give_one_row_per_example(method: dict, family: str) -> None:
    model = trained(family, method, Linear(pooling="first"))
    rows: list[list[int]] = []

    def count(module: nn.Module, inputs: Tensor, output: Tensor) -> None:
        rows[-1].append(output.numel() // HIDDEN)

    for module in model.stack.sites[LAYERS - 1][:2]:
        module.register_forward_hook(count)
    batch = batch_for(model.stack.backbone)
    for head in (model.head, Linear(pooling="mean").build(model.stack, [7, 8])):
        rows.append([])
        model.head = head
        model.logits(batch)
    prompt = 5 if method["kind"] == "late_prompt" else 0
    every = batch.ids.numel() + len(batch.ids) * prompt
    assert rows == [[len(batch.ids)] * 2, [every] * 2]


def test_what_lies_below_the_end_is_that_position() -> None:
    model = trained("bert", {"kind": "linear_probe"}, Linear())
    batch = batch_for(model.stack.backbone)
    below = model.prefix_states(batch, LAYERS)
    assert below.stream.states.shape == (3, 1, HIDDEN)
    assert torch.equal(model.logits(batch, below=below), model.logits(batch))
