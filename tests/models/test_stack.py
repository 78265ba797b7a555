"""The walk is the backbone's own forward."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_models import DEBERTA, ENCODER, HIDDEN, LAYERS, MODELS, batch_for, follow_backwards, own_forward, tiny
from transformers import DebertaV2Config, DebertaV2ForMaskedLM

from bench.methods.modules.prompt_encoders import Insert, SoftPrompt
from bench.models.backbones import EMBEDDINGS, FAMILIES, FORMS, parse
from bench.models.stack import Batch, Stack
from bench.models.stack.families import STACKS, build, load


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_walk_equals_the_backbones_forward(family: str, attention: str) -> None:
    model = tiny(family)
    if attention != model.config._attn_implementation and model._can_set_attn_implementation():
        model.set_attn_implementation(attention)
    batch = batch_for(model)
    with torch.no_grad():
        theirs, their_logits = own_forward(model, batch)
        stack = build(model)
        stream = stack.enter(batch)
        ours = [stream.states]
        for depth in range(LAYERS):
            stream = stack.walk(stream, (), start=depth, stop=depth + 1)
            ours.append(stream.states)
        logits = answer_logits(stack, batch)
    assert len(ours) == len(theirs)
    for depth in range(LAYERS):
        difference = (ours[depth] - theirs[depth])[batch.text_mask].abs().max().item()
        assert difference == 0.0, f"{family}, input of layer {depth}: {difference}"
    difference = (logits - their_logits).abs().max().item()
    assert difference < 1e-6, f"{family}, logits: {difference}"


def answer_logits(stack: Stack, batch: Batch) -> torch.Tensor:
    """[B, V], from a last layer that runs at the answer alone."""
    return stack.vocabulary_logits(stack.answer(stack.run(batch, position=stack.answer_position(batch))))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_prompt_before_layer_0_equals_embeddings_in_front_where_positions_are_rotary(family: str) -> None:
    """Rotary positions are relative: -P..-1 for the prompt is what P + T positions from 0 are."""
    model = tiny(family)
    batch, stack, source = batch_for(model), build(model), SoftPrompt.normal(4, HIDDEN, 1.0)
    words = torch.cat([source.prompt.expand(3, -1, -1), stack.word_embeddings(batch.ids)], 1)
    mask = torch.cat([torch.ones(3, 4, dtype=torch.bool), batch.text_mask], 1)
    with torch.no_grad():
        theirs = model.model(inputs_embeds=words, attention_mask=mask).last_hidden_state[:, 4:]
        ours = stack.final_norm(stack.run(batch, [Insert(source, 0)]).text)
    difference = (ours - theirs)[batch.text_mask].abs().max().item()
    assert difference < 1e-5, difference


@pytest.mark.parametrize("family", MODELS)
def test_padding_changes_nothing(family: str) -> None:
    model = tiny(family)
    stack = build(model)
    alone, beside = batch_for(model, (7,)), batch_for(model, (7, 12))
    beside.ids[0, :7] = alone.ids[0]
    edits = [Insert(SoftPrompt.normal(3, HIDDEN, 1.0), 1)]
    with torch.no_grad():
        difference = (stack.run(alone, edits).text[0] - stack.run(beside, edits).text[0, :7]).abs().max().item()
    assert difference < 1e-5, difference


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("gradient_from", [EMBEDDINGS, 0, 2, LAYERS])
def test_nothing_below_gradient_from_has_a_backward(family: str, gradient_from: int) -> None:
    model = tiny(family)
    stack = build(model)
    stack.requires_grad_(True)
    reached = follow_backwards(stack)
    stack.run(batch_for(model), gradient_from=gradient_from).states.sum().backward() if gradient_from < LAYERS else None
    words = stack.word_embeddings.weight.grad is not None
    assert words == (gradient_from == EMBEDDINGS)
    assert reached == [depth >= gradient_from for depth in range(LAYERS)]


def test_attention_mask_is_rebuilt_when_a_prompt_comes_in_and_not_per_layer() -> None:
    model = tiny("roberta")
    stack, calls = build(model), []
    original = stack.context
    stack.context = lambda stream: calls.append(stream.prompt_tokens) or original(stream)
    stack.run(batch_for(model), [Insert(SoftPrompt.normal(3, HIDDEN, 1.0), 1)])
    assert calls == [0, 3]


def test_unknown_architecture_is_named() -> None:
    model = tiny("bert")
    model.config.model_type = "unheard_of"
    with pytest.raises(ValueError, match="model_type is unheard_of, expected one of albert, bert"):
        build(model)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_rotations_are_exact_in_bf16(family: str) -> None:
    """As transformers has them; position 300 with frequencies in bf16 is off by a radian."""
    model = tiny(family)
    before = model.model.rotary_emb.inv_freq.clone()
    stack = build(model).to(torch.bfloat16)
    assert stack.word_embeddings.weight.dtype == torch.bfloat16
    assert torch.equal(model.model.rotary_emb.inv_freq, before)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_deberta_is_read_with_the_head_its_checkpoint_has(legacy: bool, tmp_path: Path) -> None:
    """v3's checkpoints have the new LM head, and configs that do not say so."""
    torch.manual_seed(1)
    config = DebertaV2Config(**ENCODER, **DEBERTA, legacy=legacy)
    model = DebertaV2ForMaskedLM(config).eval()
    model.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content.pop("legacy", None)
    (tmp_path / "config.json").write_text(json.dumps(content))
    batch = batch_for(model)
    _, theirs = own_forward(model, batch)
    stack = load(parse({"path": str(tmp_path)}, "backbone", []), str(tmp_path))
    stream = stack.walk(stack.enter(batch), ())
    assert torch.allclose(answer_logits(stack, batch), theirs, atol=1e-5)
    model.deberta.save_pretrained(tmp_path)
    headless = load(parse({"path": str(tmp_path)}, "backbone", []), str(tmp_path))
    assert not headless.vocabulary_head
    assert torch.equal(headless.walk(headless.enter(batch), ()).states, stream.states)


def test_what_a_matrix_knows_of_an_architecture_is_what_its_stack_is() -> None:
    assert {family: FORMS.get(family, "masked") for family in STACKS} == {f: s.form for f, s in STACKS.items()}
    assert set(STACKS) == set(FAMILIES.values())
