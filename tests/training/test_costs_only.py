"""Cost-only cells: real shapes with random weights on random tokens; and how the layers are run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from matrices import Expand
from tiny_models import MODELS, VOCABULARY, batch_for, tiny

from bench import board
from bench.core.settings import InputError, Unsupported
from bench.data.batches import collate
from bench.models.backbones import BACKBONES, parse
from bench.models.shapes import SHAPES
from bench.models.stack.compiled import compile_layers
from bench.models.stack.families import attention_options, auto, build, load
from bench.models.stack.shaped import config_of, load_random
from bench.profiler.live_tensors import all_live_tensors
from bench.training import random_tokens
from bench.training.setup import prepare

CPU = torch.device("cpu")
# parameters with the LM head, as published or counted in the published checkpoints
PARAMETERS = {
    "bert-base": 109_514_298,
    "bert-large": 335_174_458,
    "bert-large-cased": 335_174_458 - 1_526 * 1_025,  # its vocabulary is smaller by so many words
    "roberta-base": 124_697_433,
    "roberta-large": 355_412_057,
    "albert-base": 11_221_680,
    "albert-xxlarge": 206_368_944,
    "deberta-v3-base": 183_831_552 + 720_228,  # the encoder, and the LM head on the word embeddings
    "deberta-v3-large": 434_012_160 + 1_179_748,
    "gpt2": 124_439_808,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "opt-125m": 125_239_296,
    "opt-1.3b": 1_315_758_080,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-large-lm-adapt": 783_150_080,
    "gemma-2b": 2_506_172_416,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b": 7_248_023_552,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8_190_735_360,
}


def test_every_name_of_the_hub_has_a_shape() -> None:
    assert SHAPES.keys() == PARAMETERS.keys() == {b.name for b in BACKBONES.values() if b.source == "hub"}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_have_the_published_sizes(name: str) -> None:
    stack = load_random(BACKBONES[name], torch.bfloat16, torch.device("meta"), 0)
    found = sum(parameter.numel() for parameter in stack.parameters())
    assert found == PARAMETERS[name] and len(stack.layers) == BACKBONES[name].layers


@pytest.fixture
def shape(tmp_path: Path):
    """Writes a folder with nothing but the config.json of a tiny model of a family."""

    def write(family: str) -> dict[str, str]:
        tiny(family).config.save_pretrained(tmp_path / family)
        return {"path": str(tmp_path / family)}

    return write


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("head", ["answer_words", "linear"])
def test_every_family_trains_on_random_tokens(family: str, head: str, shape, expand: Expand) -> None:
    keys = {"backbone": shape(family), "weights": "random", "task": "random-tokens", "head": head}
    (cell,) = expand({**keys, "regime": "full", "max_length": 12, "ranks": 2, "method": {"kind": "p_tuning"}})
    tuned, made = prepare(cell)
    assert all(len(one.ids) == 12 for one in [*made.train, *made.dev, *made.test])
    assert len(made.train) == cell.steps * cell.batch_size and len(made.test) == 128
    batch = collate(made.train[:8], made.vocabulary.pad, range(8), range(8), CPU)
    loss = tuned.loss(tuned.logits(batch), batch)
    loss.backward()
    classes = 2 if head == "linear" else VOCABULARY
    assert abs(loss.item() - math.log(classes)) < 1.5, loss.item()
    assert all(p.grad is not None for p in tuned.trainable().values())
    again, others = prepare(cell)[0], prepare(cell.model_copy(update={"seed": 1}))[0]
    weights = [torch.cat([p.flatten() for p in one.parameters()]) for one in (tuned, again, others)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_tokens_are_of_the_vocabulary_and_the_same_for_a_seed(shape, expand: Expand) -> None:
    keys = {"backbone": shape("bert"), "weights": "random", "task": "random-tokens", "regime": "full"}
    one, two = expand({**keys, "seed": [0, 1]})
    words = random_tokens.vocabulary(tiny("bert").config, VOCABULARY)
    first, same, other = (random_tokens.examples(cell, words.ordinary, 9, 4)["train"] for cell in (one, one, two))
    assert all((a.ids == b.ids).all() for a, b in zip(first, same, strict=True))
    assert any((a.ids != b.ids).any() for a, b in zip(first, other, strict=True))
    drawn = {int(token) for example in first for token in example.ids[:-1]}
    assert drawn <= set(words.ordinary) and len(drawn) > VOCABULARY / 2
    assert {int(example.ids[-1]) for example in first} == {words.mask}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"backbone": "toy-encoder"}, "axes.backbone: found weights random, but toy-encoder has no shape built in"),
        ({"weights": "pretrained"}, "axes.task: found random-tokens with weights pretrained, expected weights: random"),
        ({"task": "toy-foreign-0"}, "axes.task: found toy-foreign-0 with weights random, expected task random-tokens"),
        ({"regime": {"per_class": 8}}, "axes.regime: found 8-per-class"),
        ({"landscape": {"radius": 1.0}}, "axes.landscape: found a landscape, but weights are random"),
        ({"attention": "flash_attention_2"}, "axes.attention: found flash_attention_2 with precision fp32"),
        (
            {"attention": "flash_attention_2", "precision": "bf16", "backbone": "deberta-v3-base"},
            "axes.attention: found flash_attention_2, which deberta-v2 does not have",
        ),
        ({"compile": True, "zero": "zero3"}, "axes.compile: found true with zero3"),
    ],
)
def test_what_does_not_go_together_is_named(changed: dict[str, object], expected: str, expand: Expand) -> None:
    keys = {"backbone": "bert-large", "weights": "random", "task": "random-tokens", "regime": "full"}
    with pytest.raises(InputError) as caught:
        expand({**keys, **changed})
    assert expected in str(caught.value)
    assert expand(keys)[0].cost_only


def test_a_folder_without_weights_is_a_shape_only(shape, expand: Expand) -> None:
    with pytest.raises(InputError, match=r"axes.backbone: bert: found no model.safetensors in .*or weights: random"):
        expand({"backbone": shape("bert")})


def test_attention_reaches_the_model_and_gives_the_same(tmp_path: Path) -> None:
    tiny("llama").save_pretrained(tmp_path / "llama")
    backbone = parse({"path": str(tmp_path / "llama")}, "backbone", [])
    stacks = [load(backbone, backbone.location, attention=kind) for kind in ("sdpa", "eager")]
    stacks += [load_random(backbone, torch.float32, CPU, 0, attention="eager")]
    assert [stack.config._attn_implementation for stack in stacks] == ["sdpa", "eager", "eager"]
    batch = batch_for(tiny("llama"))
    sdpa, eager = (stack.run(batch).states for stack in stacks[:2])
    torch.testing.assert_close(sdpa, eager, rtol=1e-5, atol=1e-5)
    assert auto(backbone).from_config(config_of(backbone)).config._attn_implementation == "sdpa"
    with pytest.raises(Unsupported, match="needs the package flash-attn"):
        attention_options("flash_attention_2")


@pytest.mark.full
@pytest.mark.timeout(900)  # a graph takes half a minute and more
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns itself, also inside what it traces
def test_compiled_layers_give_what_they_gave() -> None:
    """States, also of the last layer's one row, and gradients, for several lengths."""
    plain, compiled = build(tiny("bert")), build(tiny("bert"))
    compile_layers(compiled)
    for lengths in ((9, 12, 5), (7, 11, 3)):
        batch, found = batch_for(tiny("bert"), lengths), []
        for stack in (plain, compiled):
            stack.requires_grad_(True).zero_grad()
            states = stack.run(batch, position=stack.answer_position(batch)).states
            states.square().sum().backward()
            found.append([states, *(p.grad for p in stack.layers.parameters())])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert all(type(one.untyped_storage().nbytes()) is int for one in all_live_tensors()), (
        "what was traced has no memory"
    )


def test_shapes_run_on_two_ranks_and_boards_show_their_costs(write_matrix, shape, ranks) -> None:
    keys = {"weights": "random", "task": "random-tokens", "regime": "full", "max_length": 16, "steps": 4}
    file = write_matrix({"backbone": shape("bert"), **keys, "zero": ["zero2", "zero3"], "ranks": 2})
    served = list(ranks.serve(file).values())
    shown = board.markdown(served, details=False)
    assert "random weights, texts of 16 tokens: costs only" in shown and "test %" not in shown
    made = {record.labels.zero: record for record in served}
    bytes_of = {}
    for name, record in made.items():
        assert record.status == "ok" and record.quality is None
        assert record.cost.tokens_per_second > 0 and record.cost.seconds["evaluate"] > 0
        assert {(row.rank, row.phase) for row in record.memory} == {
            (rank, phase) for rank in (0, 1) for phase in ("setup", "train", "evaluate")
        }
        bytes_of[name] = record.memory[1].owners["parameters"]
    assert bytes_of["zero3"] < 0.6 * bytes_of["zero2"], bytes_of
