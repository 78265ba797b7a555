"""Each method against an implementation that is not ours: peft's, transformers' own, or the formula in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from tiny_models import LAYERS, batch_for, tiny
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
)
from tuned_models import VOCABULARY, method_of, tuned

from bench.methods.modules.adapters import Bottleneck
from bench.methods.modules.phm import Phm
from bench.methods.modules.prompt_encoders import in_front
from bench.methods.tuned_model import TunedModel
from bench.models.heads import AnswerWords, Linear
from bench.models.stack import Batch
from bench.models.stack.families import build

P = 3  # prompt tokens

# peft asks transformers under a name that transformers has given up
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def agree(ours: Tensor, theirs: Tensor, pairs: list[tuple[nn.Parameter, Tensor]], batch: Batch) -> None:
    """Logits [B, V] to 1e-5; and to 1e-4 the gradients of the cross-entropy, ours of the parameter of each pair."""
    difference = (ours - theirs).abs().max().item()
    assert difference < 1e-5, f"logits differ by {difference}"
    answers = torch.tensor([7, 8])[batch.labels]
    mine, others = (
        torch.autograd.grad(nn.functional.cross_entropy(logits, answers), [pair[side] for pair in pairs])
        for side, logits in enumerate((ours, theirs))
    )
    assert mine
    for (parameter, _), a, b in zip(pairs, mine, others, strict=True):
        assert a.abs().max() > 0, tuple(parameter.shape)
        difference = (a - b.reshape(a.shape)).abs().max().item()
        assert difference < 1e-4, f"gradients of {tuple(parameter.shape)} differ by {difference}"


def at_answer(logits: Tensor, batch: Batch) -> Tensor:
    return logits[torch.arange(len(batch.ids)), batch.answer]


def extended(batch: Batch) -> Tensor:
    """The attention mask with P visible tokens in front."""
    return nn.functional.pad(batch.text_mask.long(), (P, 0), value=1)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_prompt_tuning_is_pefts_where_positions_are_rotary(family: str) -> None:
    ours = tuned(family, {"kind": "prompt_tuning", "length": P}).eval()
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=P)
    theirs = peft.get_peft_model(tiny(family), config).eval()
    (prompt,) = ours.edits.parameters()
    their_prompt = theirs.prompt_encoder["default"].embedding.weight
    their_prompt.data.copy_(prompt)
    batch = batch_for(ours.stack.backbone)
    logits = theirs(input_ids=batch.ids, attention_mask=batch.text_mask.long()).logits[:, P:]
    agree(ours.logits(batch), at_answer(logits, batch), [(prompt, their_prompt)], batch)


def test_prompt_tuning_is_t5_with_the_prompt_before_the_encoders_words() -> None:
    """peft 0.21 cannot wrap transformers' T5 (it asks for a method that is gone); this is what it would do."""
    ours = tuned("t5", {"kind": "prompt_tuning", "length": P}).eval()
    (prompt,) = ours.edits.parameters()
    model: Any = tiny("t5")
    batch = batch_for(model)
    words = torch.cat([prompt.expand(3, -1, -1), model.shared(batch.ids)], 1)
    start = torch.zeros_like(batch.ids[:, :1])
    made = model(inputs_embeds=words, attention_mask=extended(batch), decoder_input_ids=start)
    agree(ours.logits(batch), made.logits[:, 0], [(prompt, prompt)], batch)


def test_prompt_tuning_is_gpt2_on_embeddings_without_the_prompts_positions() -> None:
    """peft gives the prompt positions 0..P-1 and shifts the text; with both taken back it is ours."""
    ours = tuned("gpt2", {"kind": "prompt_tuning", "length": P}).eval()
    (prompt,) = ours.edits.parameters()
    model: Any = tiny("gpt2")
    batch = batch_for(model)
    prompts = (prompt - model.transformer.wpe.weight[0]).expand(3, -1, -1)
    words = torch.cat([prompts, model.transformer.wte(batch.ids)], 1)
    positions = torch.cat([torch.zeros(P, dtype=torch.long), torch.arange(batch.ids.shape[1])])[None]
    logits = model(inputs_embeds=words, attention_mask=extended(batch), position_ids=positions).logits[:, P:]
    agree(ours.logits(batch), at_answer(logits, batch), [(prompt, prompt)], batch)


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "opt", "llama", "mistral", "qwen3", "gemma"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_prefix_tuning_is_pefts_at_our_positions(family: str, projection: bool, attention: str) -> None:
    """peft's own prefix through transformers' own cache; only the text's positions are told to begin at 0."""
    settings = {"kind": "prefix_tuning", "length": P, "projection": projection, "bottleneck": 8}
    model = tiny(family)
    model.set_attn_implementation(attention)
    if getattr(model.config, "sliding_window", None) is not None:
        model.config.sliding_window = 48  # a cache with a window would forget the prefix
    torch.manual_seed(4)
    stack = build(tiny(family))
    stack.backbone.set_attn_implementation(attention)
    if getattr(stack.config, "sliding_window", None) is not None:
        stack.config.sliding_window = 48
    attachment = method_of(settings).attach(stack, VOCABULARY)
    ours = TunedModel(stack, attachment, AnswerWords().build(stack, [7, 8])).eval()
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=P, prefix_projection=projection, encoder_hidden_size=8
    )
    theirs = peft.get_peft_model(model, config).eval()
    encoder = theirs.prompt_encoder["default"]
    if projection:  # peft projects from as many dimensions as the keys have, we from the hidden size
        width = encoder.embedding.embedding_dim
        if width != stack.hidden:
            encoder.embedding = nn.Embedding(P, stack.hidden)
            encoder.transform[0] = nn.Linear(stack.hidden, 8)
    pairs = list(zip(ours.edits.parameters(), encoder.parameters(), strict=True))
    for mine, other in pairs:
        other.data.copy_(mine)
    batch = batch_for(stack.backbone)
    cache = theirs.get_prompt(batch_size=3)
    positions = torch.arange(batch.ids.shape[1])[None]
    base = theirs.base_model
    made = base(input_ids=batch.ids, attention_mask=extended(batch), past_key_values=cache, position_ids=positions)
    agree(ours.logits(batch), at_answer(made.logits, batch), pairs, batch)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_prefix_tuning_of_encoders_is_their_layers_on_a_cache(family: str) -> None:
    ours = tuned(family, {"kind": "prefix_tuning", "length": P}).eval()
    (rows,) = ours.edits.parameters()
    plain = build(tiny(family))
    batch = batch_for(plain.backbone)
    cache = DynamicCache()
    states = plain.enter(batch).states
    hidden = extended(batch)[:, None, None].bool().expand(-1, 1, states.shape[1], -1)
    for depth, pair in enumerate(rows.view(P, -1, 2, 4, 8).unbind(1)):
        keys, values = (one.transpose(0, 1).expand(3, -1, -1, -1) for one in pair.unbind(1))
        cache.update(keys, values, depth)
        states = plain.layers[depth](states, hidden, past_key_values=cache)
    logits = plain.vocabulary_logits(at_answer(states, batch))
    agree(ours.logits(batch), logits, [(rows, rows)], batch)


PEFT_TABLE: list[dict[str, Any]] = [
    {"peft_type": "LORA", "r": 2, "lora_alpha": 6},
    {"peft_type": "LORA", "r": 2, "use_dora": True},
    {"peft_type": "IA3"},
    {"peft_type": "VERA", "r": 4},
    {"peft_type": "OFT", "oft_block_size": 4},
]


PEFT_CASES = [
    (family, settings)
    for family in ("bert", "roberta", "deberta", "gpt2", "opt", "llama", "qwen2", "t5")
    for settings in PEFT_TABLE
    if (family, settings["peft_type"]) != ("gpt2", "OFT")  # which has no form for transposed weights
]


@pytest.mark.parametrize(("family", "settings"), PEFT_CASES, ids=str)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_a_peft_config_is_pefts_own_model(family: str, settings: dict[str, Any]) -> None:
    ours = tuned(family, {"kind": "peft", "config": settings}).eval()
    config = peft.get_peft_config({"task_type": None, **settings})
    theirs = peft.get_peft_model(tiny(family), config).eval()
    others = dict(theirs.named_parameters())
    pairs = []
    for name, mine in ours.trainable().items():
        torch.nn.init.normal_(mine, std=0.3)  # neutral as they begin, they would agree whatever they did
        other = others[name.replace("stack.backbone.", "base_model.model.")]
        other.data.copy_(mine)
        pairs.append((mine, other))
    assert len(pairs) == sum(p.requires_grad for p in others.values())
    batch = batch_for(ours.stack.backbone)
    options: dict[str, Any] = {"input_ids": batch.ids, "attention_mask": batch.text_mask.long()}
    if ours.stack.form == "encoder_decoder":
        logits = theirs(**options, decoder_input_ids=torch.zeros_like(batch.ids[:, :1])).logits[:, 0]
        pairs = [pair for pair, name in zip(pairs, ours.trainable(), strict=True) if "decoder" not in name]
    else:
        logits = at_answer(theirs(**options).logits, batch)
    agree(ours.logits(batch), logits, pairs, batch)


def test_bottleneck_is_its_formula_in_float64() -> None:
    torch.manual_seed(0)
    adapter, states = Bottleneck(12, 5, "swish"), torch.randn(2, 3, 12)
    for parameter in adapter.parameters():
        nn.init.normal_(parameter)
    down, down_bias, up, up_bias = (p.double() for p in (*adapter.down.parameters(), *adapter.up.parameters()))
    inner = states.double() @ down.T + down_bias
    expected = (inner * inner.sigmoid()) @ up.T + up_bias
    assert (adapter(states) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("rank", [None, 1, 3])
@pytest.mark.parametrize(("inputs", "outputs", "n"), [(12, 8, 4), (8, 12, 2), (6, 6, 1), (16, 16, 8)])
def test_phm_is_its_sum_of_kronecker_products_in_float64(inputs: int, outputs: int, n: int, rank: int | None) -> None:
    torch.manual_seed(0)
    layer, states = Phm(inputs, outputs, n, rank, scale=1.0), torch.randn(2, 5, inputs)
    nn.init.normal_(layer.bias)
    blocks = layer.left.double() if layer.right is None else layer.left.double() @ layer.right.double()
    matrix = sum(torch.kron(layer.rule[i].double(), blocks[i]) for i in range(n))
    expected = states.double() @ matrix + layer.bias.double()
    assert (layer(states) - expected).abs().max() < 1e-5


def with_noise(family: str, settings: dict[str, Any]) -> tuple[Any, Any, Tensor]:
    """The layer 1 that a method has adapters in, set to noise and in float64; the layer as it was; states."""
    ours = tuned(family, settings)
    for parameter in ours.trainable().values():
        nn.init.normal_(parameter, std=0.3)
    torch.manual_seed(5)
    states = torch.randn(2, 6, ours.stack.hidden, dtype=torch.float64)
    return ours.stack.double().eval().sites[1].block, build(tiny(family)).double().eval().sites[1].block, states


ADAPTERS: list[dict[str, Any]] = [{"kind": "adapter", "reduction": 8}, {"kind": "compacter", "reduction": 4}]


@pytest.mark.parametrize("settings", ADAPTERS, ids=str)
def test_houlsby_and_compacter_stand_before_both_residuals_of_bert(settings: dict[str, Any]) -> None:
    layer, plain, x = with_noise("bert", settings)
    first, second = layer.attention.output.dropout.adapter, layer.output.dropout.adapter
    h = plain.attention.output.dense(plain.attention.self(x)[0])
    a = plain.attention.output.LayerNorm(h + bottleneck(first, h) + x)
    h = plain.output.dense(plain.intermediate(a))
    expected = plain.output.LayerNorm(h + bottleneck(second, h) + a)
    assert (layer(x) - expected).abs().max() < 1e-12


def test_pfeiffer_stands_behind_the_last_norm_of_bert() -> None:
    layer, plain, x = with_noise("bert", {"kind": "adapter", "reduction": 8, "placement": "pfeiffer"})
    a = plain.attention(x)[0]
    s = plain.output.dense(plain.intermediate(a)) + a
    norm = plain.output.LayerNorm
    assert (layer(x) - norm(s + bottleneck(layer.output.LayerNorm.adapter, norm(s)))).abs().max() < 1e-12


@pytest.mark.parametrize("settings", ADAPTERS, ids=str)
def test_houlsby_and_compacter_stand_before_both_residuals_of_gpt2(settings: dict[str, Any]) -> None:
    layer, plain, x = with_noise("gpt2", settings)
    h = plain.attn(plain.ln_1(x))[0]
    a = h + bottleneck(layer.attn.resid_dropout.adapter, h) + x
    h = plain.mlp(plain.ln_2(a))
    expected = h + bottleneck(layer.mlp.adapter, h) + a
    assert (layer(x) - expected).abs().max() < 1e-12


def test_pfeiffer_stands_behind_the_layer_of_gpt2() -> None:
    layer, plain, x = with_noise("gpt2", {"kind": "adapter", "reduction": 8, "placement": "pfeiffer"})
    out = plain(x)
    assert (layer(x) - out - bottleneck(layer.adapter, out)).abs().max() < 1e-12


def bottleneck(adapter: Any, h: Tensor) -> Tensor:
    """The formula, for full maps with relu or swish and for PHM maps with gelu."""
    if isinstance(adapter, Bottleneck):
        inner = h @ adapter.down.weight.T + adapter.down.bias
        active = inner * inner.sigmoid() if isinstance(adapter.activation, nn.SiLU) else inner.clamp_min(0)
        return active @ adapter.up.weight.T + adapter.up.bias
    down, activation, up = adapter
    assert isinstance(activation, nn.GELU) and down.rule is up.rule
    made = h @ kronecker(down) + down.bias
    made = 0.5 * made * (1 + torch.erf(made / 2**0.5))
    return made @ kronecker(up) + up.bias


def kronecker(layer: Phm) -> Tensor:
    blocks = layer.left @ layer.right
    return sum((torch.kron(layer.rule[i], blocks[i]) for i in range(layer.n)), torch.zeros(()))


def test_deep_prompts_are_put_in_place_of_the_old_ones_before_every_layer() -> None:
    ours = tuned("bert", {"kind": "deep_prompts", "length": P}).eval()
    plain = build(tiny("bert"))
    batch = batch_for(plain.backbone)
    stream = plain.enter(batch)
    states, mask = stream.states, extended(batch).bool()
    for layer, source in zip(plain.layers, ours.edits[0].prompts, strict=True):
        states = layer(torch.cat([source.prompt.expand(3, -1, -1), states], 1), mask[:, None, None])[:, P:]
    logits = plain.vocabulary_logits(at_answer(states, batch))
    prompts = [(source.prompt, source.prompt) for source in ours.edits[0].prompts]
    agree(ours.logits(batch), logits, prompts, batch)


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
@pytest.mark.parametrize("generator", ["dnn", "phm"])
def test_idpg_reads_the_backbones_own_last_state(family: str, generator: str) -> None:
    settings = {"kind": "idpg", "length": P, "bottleneck": 4, "phm_dimension": 4, "generator": generator}
    ours = tuned(family, settings).eval()
    batch = batch_for(ours.stack.backbone)
    model = tiny(family)
    out = model.base_model(input_ids=batch.ids, attention_mask=batch.text_mask.long()).last_hidden_state
    last = batch.text_mask.sum(1) - 1
    encoded = out[torch.arange(3), last] if family == "gpt2" else out[:, 0]
    first, _, second, _ = ours.edits[0].source.generate
    inner = first(encoded)
    inner = 0.5 * inner * (1 + torch.erf(inner / 2**0.5))
    expected = second(inner).view(3, P, -1)
    made = ours.edits[0].source(ours.stack.enter(batch))
    assert (made - expected).abs().max() < 1e-5


def test_p_tuning_is_the_network_of_its_authors() -> None:
    """THUDM/P-tuning, PT-Fewshot/pet/wrapper.py:109-117; peft's LSTM has the same shapes."""
    batch = batch_for(tiny("bert"))
    for encoder in ("lstm", "mlp"):
        source = tuned("bert", {"kind": "p_tuning", "length": P, "encoder": encoder}).edits[0].source
        hidden = source.vectors.embedding_dim
        theirs = nn.LSTM(hidden, hidden, num_layers=2, bidirectional=True, batch_first=True)
        states = source.vectors.weight[None]
        if encoder == "lstm":
            theirs.load_state_dict(source.lstm.state_dict())
            states = theirs(states)[0]
        first, second = source.mlp[0], source.mlp[-1]
        expected = (states @ first.weight.T + first.bias).clamp_min(0) @ second.weight.T + second.bias
        made = source(build(tiny("bert")).enter(batch))
        assert made.shape == (3, P, hidden) and (made - expected).abs().max() < 1e-6


def test_prompts_from_words_begin_as_what_layer_0_reads_of_them() -> None:
    stack = build(tiny("gpt2"))
    start = method_of({"kind": "prompt_tuning", "length": P, "init": "class_labels"}).start(stack, VOCABULARY)
    placed = stack.word_embeddings.weight + stack.backbone.transformer.wpe.weight[0]
    assert torch.allclose(start[0], placed[7]) and torch.allclose(start[1], placed[[8, 9]].mean(0))
    assert any(torch.allclose(start[2], placed[i]) for i in VOCABULARY.frequent)


def test_prefix_tuning_of_t5_has_no_relative_position() -> None:
    ours = tuned("t5", {"kind": "prefix_tuning", "length": P}).eval()
    (rows,) = ours.edits.parameters()
    plain = build(tiny("t5"))
    batch = batch_for(plain.backbone)
    states = plain.enter(batch).states
    bias = plain.layers[0].layer[0].SelfAttention.compute_bias(12, 12)
    hidden = torch.zeros(3, 1, 1, 12 + P).masked_fill(~extended(batch)[:, None, None].bool(), -1e9)
    for layer, pair in zip(plain.layers, rows.view(P, -1, 2, 4, 8).unbind(1), strict=True):
        attention = layer.layer[0].SelfAttention
        x = layer.layer[0].layer_norm(states)
        q, k, v = (one(x).view(3, -1, 4, 8).transpose(1, 2) for one in (attention.q, attention.k, attention.v))
        keys, values = (one.transpose(0, 1).expand(3, -1, -1, -1) for one in pair.unbind(1))
        k, v = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        scores = q @ k.transpose(2, 3) + nn.functional.pad(bias, (P, 0)) + hidden
        out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(3, -1, 32)
        states = layer.layer[-1](states + attention.o(out))
    stream = plain.enter(batch)._replace(states=states)
    logits = plain.vocabulary_logits(plain.answer(stream))
    agree(ours.logits(batch), logits, [(rows, rows)], batch)


def test_prefix_tuning_of_deberta_is_a_prompts_own_keys_and_values() -> None:
    """A prefix made of what a prompt before the layer gives there does to the text what that prompt does."""
    plain = build(tiny("deberta"))
    batch = batch_for(plain.backbone)
    stream = plain.enter(batch)
    prompt = torch.randn(P, plain.hidden)
    (attention,) = (plain.layers[1].attention.self,)
    prefix = tuple(one(prompt).view(P, 4, 8) for one in (attention.key_proj, attention.value_proj))
    context = plain.context(stream)
    made = plain.layer(1, stream.states, context, prefix=prefix)
    longer = in_front(prompt.expand(3, -1, -1), stream)
    expected = plain.layer(1, longer.states, plain.context(longer))[:, P:]
    difference = (made - expected)[batch.text_mask].abs().max().item()
    assert difference < 1e-6, difference
    swapped = plain.layer(1, stream.states, context, prefix=prefix[::-1])
    assert (swapped - expected)[batch.text_mask].abs().max() > 1e-3


# the modules behind which Houlsby's two adapters stand, and Pfeiffer's one, by their names in layer 1
PLACES = {
    "bert": ("attention.output.dropout", "output.dropout", "output.LayerNorm"),
    "albert": (
        "albert_layers.0.attention.output_dropout",
        "albert_layers.0.ffn_output",
        "albert_layers.0.full_layer_layer_norm",
    ),
    "deberta": ("attention.output.dropout", "output.dropout", "output.LayerNorm"),
    "gpt2": ("attn.resid_dropout", "mlp", ""),
    "opt": ("self_attn.out_proj", "fc2", ""),
    "opt-350m": ("self_attn.out_proj", "fc2", "final_layer_norm"),
    "llama": ("self_attn.o_proj", "mlp", ""),
    "t5": ("layer.0.dropout", "layer.1.dropout", ""),
}


@pytest.mark.parametrize("family", PLACES)
def test_adapters_stand_in_their_places(family: str) -> None:
    attention, feed_forward, last = PLACES[family]
    for placement, places in (("houlsby", {attention, feed_forward}), ("pfeiffer", {last})):
        layer = tuned(family, {"kind": "adapter", "reduction": 8, "placement": placement}).stack.layers[1]
        assert {name for name, module in layer.named_modules() if hasattr(module, "adapter")} == places


def test_the_decoder_of_t5_has_adapters_too() -> None:
    stack = tuned("t5", ADAPTERS[0]).stack
    places = [name for name, module in stack.backbone.decoder.named_modules() if hasattr(module, "adapter")]
    assert places == [f"block.{i}.layer.{part}.dropout" for i in range(LAYERS) for part in (0, 2)]


# from the formulas of xyltt/LPT and of each method; its author gives the first in issue 1, 792K in the paper's table
ROBERTA_LARGE = [
    ({"kind": "late_prompt", "depth": 12}, 791_680),
    ({"kind": "late_prompt", "depth": 12, "generator": "max_pooling"}, 263_296),
    ({"kind": "late_prompt", "depth": 12, "generator": "average_pooling", "length": 10}, 263_296),
    ({"kind": "late_prompt", "depth": 12, "generator": "none"}, 5_120),
    ({"kind": "prompt_tuning"}, 20_480),
    ({"kind": "prefix_tuning"}, 983_040),
    ({"kind": "adapter", "reduction": 64}, 1_622_784),
    ({"kind": "adapter", "reduction": 64, "placement": "pfeiffer"}, 811_392),
    ({"kind": "adapter", "reduction": 32, "placement": "pfeiffer"}, 1_598_208),
    ({"kind": "adapter", "reduction": 64, "drop": 12}, 811_392),
    ({"kind": "bitfit"}, 271_360),
    ({"kind": "peft", "config": {"peft_type": "LORA", "r": 8}}, 786_432),
    ({"kind": "idpg"}, 103_440),  # 16 (H + 1) + 5 H (16 + 1)
    ({"kind": "full"}, 355_412_057),
]
GPT2_LARGE = [
    ({"kind": "late_prompt", "depth": 18}, 989_568),
    ({"kind": "late_prompt", "depth": 18, "generator": "max_pooling"}, 329_088),
    ({"kind": "prompt_tuning"}, 25_600),
    ({"kind": "late_prompt", "depth": 18, "generator": "none"}, 6_400),
]


@functools.cache
def large(name: str) -> Callable[[], PreTrainedModel]:
    if name == "roberta-large":
        shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
        shape |= {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
        return lambda: RobertaForMaskedLM(RobertaConfig(**shape))
    return lambda: GPT2LMHeadModel(GPT2Config(n_embd=1280, n_layer=36, n_head=20))


@pytest.mark.parametrize(
    ("backbone", "settings", "parameters"),
    [("roberta-large", *row) for row in ROBERTA_LARGE] + [("gpt2-large", *row) for row in GPT2_LARGE],
    ids=str,
)
def test_trainable_parameters_are_those_of_the_papers(backbone: str, settings: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        stack = build(large(backbone)())
        attachment = method_of(settings).attach(stack, VOCABULARY)
    trained = [p for module in (stack, *attachment.edits) for p in module.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == parameters


def test_with_a_linear_head_of_two_classes_they_are_those_of_the_papers() -> None:
    """P-tuning v2's 985K; 354,310,144 is roberta-large without any head."""
    for settings, parameters in (
        ({"kind": "prefix_tuning"}, 985_090),
        ({"kind": "bitfit"}, 273_410),
        ({"kind": "peft", "config": {"peft_type": "LORA", "r": 8}}, 788_482),
        ({"kind": "full"}, 354_310_144 + 2_050),
        ({"kind": "linear_probe"}, 2_050),
    ):
        with torch.device("meta"):
            stack = build(large("roberta-large")())
            attachment = method_of(settings).attach(stack, VOCABULARY)
            model = TunedModel(stack, attachment, Linear().build(stack, [0, 1]))
        assert sum(p.numel() for p in model.trainable().values()) == parameters, settings
