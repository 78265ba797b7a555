"""The formula gives what torch counts in a run, for every method and regularizer, on every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pairs import covering
from tables import METHOD_TABLE, REGULARIZER_FORMS
from tiny_models import batch_for
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from transformers import BertConfig, BertForMaskedLM
from tuned_models import (
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

from bench.methods.tuned_model import TunedModel
from bench.models.backbones import EMBEDDINGS
from bench.models.heads import HEADS, AnswerWords
from bench.models.stack import families
from bench.models.stack.operation_counter import Operations
from bench.profiler.flops import Flops

TOLERANCE = 0.01
# where oneDNN is switched off, and on again
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")

PLAIN, NOISE = {"kind": "none"}, {"kind": "noise"}
REGULARIZERS = [PLAIN, NOISE, {"kind": "attack"}, {"kind": "attack", "algorithm": "freelb"}]
LATE = {"kind": "late_prompt", "depth": 1, "bottleneck": 4}
MORE_PEFT = [
    {"kind": "peft", "config": {"peft_type": "VERA", "r": 4}},
    {"kind": "peft", "config": {"peft_type": "OFT", "oft_block_size": 4}},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2, "use_dora": True, "lora_dropout": 0.1}},
]


class Counter(TorchDispatchMode):
    """FlopCounterMode without its hooks on modules, which `torch.autograd.grad` does not go through."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def build(family: str, method: dict, head: str | None = None) -> TunedModel:
    """In train mode, with attention that torch counts on a CPU, which is not its fused one."""
    model = tuned(family, method, HEADS[head or method_of(method).heads[0]]()).train()
    prefixed = "prefixed" in model.stack.attention_config._attn_implementation
    for module in model.modules():
        if hasattr(config := getattr(module, "config", None), "_attn_implementation"):
            config._attn_implementation = "eager"
    if prefixed:
        model.stack.accept_keys_values()
    return model


def count(model: TunedModel, regularizer: dict, lengths: tuple[int, ...] = (9, 12, 5)) -> tuple[int, int]:
    """Of a step's passes in a run; and T of the batch as it was shown."""
    tokens = 0
    with torch.backends.mkldnn.flags(enabled=False):  # torch does not see into its LSTM
        made = passes(model, batch_for(model.stack.backbone, lengths), regularizer)
        with Counter() as counter:
            for shown in made:
                tokens = shown.batch.ids.shape[1]
                model(shown)[0].backward()
    return counter.total, tokens


def check(model: TunedModel, regularizer: dict, lengths: tuple[int, ...] = (9, 12, 5)) -> Operations:
    expected, tokens = count(model, regularizer, lengths)
    found = Flops(model, regularizer_of(regularizer)).of(len(lengths), tokens)
    assert found is not None
    assert sum(found) == pytest.approx(expected, rel=TOLERANCE), (regularizer, found, sum(found) / expected)
    return found


def test_counts_as_torch_does() -> None:
    model = build("roberta", {"kind": "full"})
    (shown,) = passes(model, batch_for(model.stack.backbone), PLAIN)
    with FlopCounterMode(display=False) as counter:
        model(shown)[0].backward()
    assert counter.get_total_flops() == count(model, PLAIN)[0]


SOME_FAMILIES = ["roberta", "gpt2", "qwen3"]


@covering(
    "method, family, regularizer", [(*c, r) for c in cases(METHOD_TABLE, SOME_FAMILIES) for r in REGULARIZERS], name
)
def test_of_every_method(method: dict, family: str, regularizer: dict) -> None:
    check(build(family, method), regularizer)


LENGTHS = {(17, 4): PLAIN, (7,): {"kind": "attack", "depth": 2}}


@covering_cases("method, family, lengths", [(*case, lengths) for case in cases(SOME_METHODS) for lengths in LENGTHS])
def test_on_every_family(method: dict, family: str, lengths: tuple[int, ...]) -> None:
    check(build(family, method), LENGTHS[lengths], lengths)


@pytest.mark.parametrize("form", REGULARIZER_FORMS, ids=name)
@pytest.mark.parametrize("lower_dropout", [False, True])
def test_of_every_form_of_regularizer(form: dict, lower_dropout: bool) -> None:
    model = build("roberta", LATE)
    model.lower_dropout = lower_dropout
    check(model.train(), form)


@pytest.mark.parametrize("family", ["roberta", "deberta", "gpt2", "t5"])
@pytest.mark.parametrize("head", HEADS)
def test_with_every_head(head: str, family: str) -> None:
    for method in ({"kind": "full"}, LATE, {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}}):
        check(build(family, method, head), PLAIN)


@pytest.mark.parametrize("method", MORE_PEFT, ids=name)
def test_of_more_of_peft(method: dict) -> None:
    check(build("roberta", method), PLAIN)


@pytest.mark.parametrize("config", [{"peft_type": "LOHA"}, {"peft_type": "LORA", "modules_to_save": ["dense"]}])
def test_a_module_without_a_formula_is_not_guessed(config: dict) -> None:
    model = build("roberta", {"kind": "peft", "config": {**config, "r": 2}})
    assert Flops(model, regularizer_of(PLAIN)).of(3, 9) is None


RECOMPUTED = [(*c, p) for c in cases(SOME_METHODS, ["roberta", "gpt2", "opt", "llama", "t5"]) for p in (0.0, 0.1)]


@covering("method, family, dropout", RECOMPUTED, name)
def test_checkpointing_adds_a_forward(method: dict, family: str, dropout: float) -> None:
    model = build(family, method)
    plain = check(model, NOISE)
    model.stack.checkpointing = True
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = dropout
    again = check(model, NOISE)
    assert plain.recomputed == 0 < again.recomputed < again.own and again.own == plain.own


def test_what_is_given_costs_nothing() -> None:
    """As where the states entering a depth are read from a cache."""
    model = build("roberta", {"kind": "late_prompt", "depth": 2, "generator": "none"})
    flops = Flops(model, regularizer_of(PLAIN))
    whole, upper = flops.of(3, 12), flops.of(3, 12, 2)
    assert whole is not None and upper is not None and flops.of(3, 12, EMBEDDINGS) == whole
    batch = batch_for(model.stack.backbone)
    below = model.prefix_states(batch, 2)
    with Counter() as counter:
        model.loss(model.logits(batch, below=below), batch).backward()
    assert sum(upper) == counter.total < sum(whole)


def large(method: dict) -> Flops:
    """bert-large without weights."""
    shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    with torch.device("meta"):
        stack = families.build(BertForMaskedLM(BertConfig(**shape)))
        model = TunedModel(stack, method_of(method).attach(stack, VOCABULARY), AnswerWords().build(stack, [7, 8]))
    return Flops(model, regularizer_of(PLAIN))


@pytest.mark.parametrize(
    ("method", "given", "ratio"),
    [
        ({"kind": "prompt_tuning", "length": 20}, EMBEDDINGS, 72 / 63.0),
        ({"kind": "peft", "config": {"peft_type": "LORA", "r": 8}}, EMBEDDINGS, 72 / 48),
        ({"kind": "late_prompt", "depth": 12}, EMBEDDINGS, 72 / 37.9),
        ({"kind": "late_prompt", "depth": 12}, 12, 72 / 25.9),
    ],
    ids=name,
)
def test_full_tuning_costs_as_many_times_more_as_layers_say(method: dict, given: int, ratio: float) -> None:
    """Layers of 64 tokens, backwards as dear as forwards, and once more for weights; attention and heads left out."""
    full, found = large({"kind": "full"}).of(32, 64), large(method).of(32, 64, given)
    assert full is not None and found is not None
    assert full.own / found.own == pytest.approx(ratio, rel=0.04), (full, found)


def test_shapes_are_those_before_partitioning() -> None:
    """ZeRO-3 leaves a parameter without elements, and its shape in `ds_shape`."""
    model = build("roberta", {"kind": "adapter", "reduction": 8})
    before = Flops(model, regularizer_of(NOISE)).of(3, 12)
    for parameter in model.parameters():
        parameter.ds_shape = parameter.shape
        parameter.data = torch.empty(0)
    assert Flops(model, regularizer_of(NOISE)).of(3, 12) == before


def test_batches_add_up() -> None:
    flops = Flops(build("roberta", LATE), regularizer_of(PLAIN))
    one, two = flops.of(3, 12), flops.of(2, 9)
    assert one is not None and two is not None
    assert flops.total({(3, 12): 4, (2, 9): 1}) == one * 4 + two
