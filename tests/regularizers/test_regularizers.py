"""Perturbations touch what they may, draw the same everywhere, and attacks raise the loss inside their ball."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from matrices import Expand
from tiny_models import MODELS, VOCABULARY, batch_for, tiny
from torch import nn
from tuned_models import passes, perturber, regularizer_of, tuned

from bench.core.settings import InputError
from bench.kernels.ascent import length
from bench.methods.tuned_model import TunedModel, symmetric_kl
from bench.models.backbones import EMBEDDINGS
from bench.models.forward_passes import BatchView, ForwardPass, Shift, with_text
from bench.models.heads import AnswerWords
from bench.models.stack import Batch, Stream
from bench.models.stack.families import build
from bench.regularizers.perturbers.noise_text import OPERATIONS, Words

PROMPT = {"kind": "prompt_tuning", "length": 3}
TOKENS = Words(torch.arange(5, VOCABULARY), pad=0, mask=4, longest=100)


def only_pass(model: TunedModel, batch: Batch, regularizer: dict) -> ForwardPass:
    (shown,) = passes(model, batch, regularizer)
    return shown


def delta_of(model: TunedModel, batch: Batch, regularizer: dict) -> torch.Tensor:
    """What the perturbed view adds to the text: [B, T, H]."""
    perturbation = only_pass(model, batch, regularizer).views[-1].perturbation
    assert perturbation is not None
    return perturbation(torch.zeros(*batch.ids.shape, model.stack.width(perturbation.depth)))


def row(batch: Batch, i: int) -> Batch:
    """One example of a batch, without padding."""
    n = int(batch.text_mask[i].sum())
    return Batch(**{k: v[i : i + 1, :n] if v.dim() == 2 else v[i : i + 1] for k, v in vars(batch).items()})


def cross_entropy(model: TunedModel, view: BatchView) -> torch.Tensor:
    """By a pass of its own."""
    edits = [lambda depth, stream: perturbed(view, depth, stream)]
    return model.loss(model.logits(view.batch, edits), view.batch)


def perturbed(view: BatchView, depth: int, stream: Stream) -> Stream:
    found = view.perturbation
    return stream if found is None or found.depth != depth else with_text(stream, found(stream.text))


# in embeddings


@pytest.mark.parametrize("depth", ["words", 0, 2])
@pytest.mark.parametrize("kind", ["noise", "attack"])
def test_only_eligible_tokens_are_touched(kind: str, depth) -> None:
    model = tuned("roberta", PROMPT)
    batch = batch_for(model.stack.backbone)
    delta = delta_of(model, batch, {"kind": kind, "depth": depth})
    assert torch.equal(delta.abs().sum(-1) > 0, batch.perturbable_mask)
    assert not delta.requires_grad


@pytest.mark.parametrize(
    ("settings", "deviation"),
    [
        ({"sigma": 0.3}, 0.3),
        ({"sigma": 0.3, "law": "uniform"}, 0.3 / 3**0.5),
        ({"sigma_relative": 2.0}, None),
        ({}, 0.01),
    ],
)
def test_noise_has_its_sigma(settings: dict, deviation: float | None) -> None:
    model = tuned("roberta", {"kind": "full"})
    if deviation is None:
        deviation = 2 * model.stack.word_embeddings.weight.std().item()
    batch = batch_for(model.stack.backbone, (48,) * 40)
    values = delta_of(model, batch, {"kind": "noise", **settings})[batch.perturbable_mask]
    # the standard error of a standard deviation of n values of a normal is sigma / sqrt(2 n); of a uniform, less
    error = abs(values.std().item() - deviation)
    assert error < 5 * deviation / (2 * values.numel()) ** 0.5, (error, values.numel())
    if settings.get("law") == "uniform":
        assert values.abs().max() <= 0.3


@pytest.mark.parametrize("family", MODELS)
def test_relative_noise_is_as_large_as_the_words_it_is_added_to(family: str) -> None:
    """Gemma's are larger than its weights."""
    model = tuned(family, {"kind": "full"})
    batch = batch_for(model.stack.backbone, (40,) * 40)
    words = model.stack.embed(batch).states.detach()
    delta = delta_of(model, batch, {"kind": "noise", "sigma_relative": 1.0})[batch.perturbable_mask]
    assert 0.5 < delta.std().item() / words.std().item() < 2, (delta.std(), words.std())


def test_a_gradient_in_half_precision_does_not_vanish() -> None:
    """Where the loss is low, as on examples that are learnt; fp16 ends at 6e-8."""
    model = tuned("roberta", {"kind": "full"}, AnswerWords(loss="answer_words"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lm_head.bias"):
                parameter[7] += 16.0
    batch = replace(batch_for(model.stack.backbone), labels=torch.zeros(3, dtype=torch.int64))
    found = []
    for dtype in (torch.float64, torch.float16):
        model.to(dtype)
        words = model.prefix_states(batch, EMBEDDINGS)
        found.append(model.gradient(batch, words, words.stream.text).double().flatten())
    exact, half = found
    assert exact.abs().max() < 1e-6 and torch.cosine_similarity(exact, half, dim=0) > 0.99


@pytest.mark.parametrize(
    "settings",
    [{"kind": "noise"}, {"kind": "attack"}, *({"kind": "noise", "space": "text", "operation": o} for o in OPERATIONS)],
)
def test_an_example_draws_the_same_alone_and_among_others(settings: dict) -> None:
    """So it does on any number of ranks: its seed is its own, and padding draws nothing."""
    model = tuned("roberta", PROMPT)
    batch = batch_for(model.stack.backbone)
    if settings.get("space") == "text":
        settings = {**settings, "rate": 0.5}
        together = only_pass(model, batch, settings).views[-1].batch
        for i in range(3):
            alone = only_pass(model, row(batch, i), settings).views[-1].batch
            theirs = row(together, i)
            n = theirs.ids.shape[1]
            assert torch.equal(row(alone, 0).ids, theirs.ids) and torch.equal(
                alone.perturbable_mask[:, :n], theirs.perturbable_mask
            )
        return
    together = delta_of(model, batch, settings)
    for i in range(3):
        alone = delta_of(model, row(batch, i), settings)
        difference = (alone[0] - together[i, : alone.shape[1]]).abs().max().item()
        assert difference < 1e-5, (i, difference)


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("depth", ["words", 1])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_attack_stays_in_its_ball_and_raises_the_loss(norm, depth, family: str) -> None:
    model = tuned(family, {"kind": "late_prompt", "depth": 1, "generator": "none"})
    batch = batch_for(model.stack.backbone)
    radius = 0.5 if norm == "l2" else 0.05
    attack = {"kind": "attack", "norm": norm, "depth": depth, "steps": 4, "step_size": radius, "radius": radius}
    shown = only_pass(model, batch, {**attack, "initial": 0.0})
    delta = shown.views[1].perturbation
    assert isinstance(delta, Shift)
    assert (length(delta.delta, norm) <= radius * (1 + 1e-5)).all()
    clean, attacked = (cross_entropy(model, view).item() for view in shown.views)
    assert attacked > clean, (attacked, clean)


def test_without_a_radius_the_attack_steps_by_its_step_size() -> None:
    model = tuned("roberta", {"kind": "full"})
    batch = batch_for(model.stack.backbone)
    delta = delta_of(model, batch, {"kind": "attack", "radius": 0, "steps": 1, "step_size": 0.7, "initial": 0.0})
    assert torch.allclose(length(delta, "l2"), torch.tensor(0.7))


def test_the_ascent_of_pgd_runs_in_eval_mode_and_restores_training() -> None:
    model = tuned("roberta", {"kind": "late_prompt", "depth": 2}).train()
    seen: list[bool] = []
    model.stack.layers[2].register_forward_pre_hook(lambda module, _: seen.append(module.training))
    only_pass(model, batch_for(model.stack.backbone), {"kind": "attack", "steps": 2})
    assert seen == [False, False]
    assert model.training and model.stack.layers[2].training and not model.stack.layers[1].training


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({"kind": "none"}, [1, 1, 1]),
        ({"kind": "noise", "depth": 2}, [1, 1, 1]),
        ({"kind": "noise"}, [1, 1, 1]),
        ({"kind": "attack", "depth": 2, "steps": 3}, [1, 1, 4]),
        ({"kind": "attack", "depth": 1, "steps": 3}, [1, 4, 4]),
        ({"kind": "attack", "steps": 3}, [4, 4, 4]),
        ({"kind": "attack", "depth": 2, "steps": 3, "algorithm": "freelb"}, [1, 1, 4]),
    ],
)
def test_what_lies_below_the_prompt_and_the_perturbation_runs_once(settings: dict, calls: list[int]) -> None:
    model = tuned("roberta", {"kind": "late_prompt", "depth": 2})
    made = [0, 0, 0]

    def count(depth: int):
        def hook(*_: object) -> None:
            made[depth] += 1

        return hook

    for depth, layer in enumerate(model.stack.layers):
        layer.register_forward_hook(count(depth))
    for shown in passes(model, batch_for(model.stack.backbone), settings):
        model(shown)[0].backward()
    assert made == calls


@pytest.mark.parametrize("depth", ["words", 1, 2])
@pytest.mark.parametrize("method", [PROMPT, {"kind": "late_prompt", "depth": 1}, {"kind": "full"}])
def test_one_pass_over_both_views_is_two_passes(method: dict, depth) -> None:
    model = tuned("roberta", method).train()
    batch = batch_for(model.stack.backbone)
    shown = only_pass(model, batch, {"kind": "noise", "sigma": 0.1, "depth": depth, "weight": 0.5, "clean_weight": 2.0})
    total, clean = model(shown)
    losses = [cross_entropy(model, view) for view in shown.views]
    assert torch.allclose(total, 2 * losses[0] + 0.5 * losses[1], atol=1e-6)
    assert torch.allclose(clean, losses[0], atol=1e-6)
    trainable = list(model.trainable().values())
    ours, theirs = (torch.autograd.grad(loss, trainable) for loss in (total, 2 * losses[0] + 0.5 * losses[1]))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_freelb_trains_on_the_mean_of_all_its_points() -> None:
    """The gradient of its passes together is that of clean + weight / K sum CE(E + delta_t), by hand."""
    model = tuned("roberta", PROMPT)
    batch = batch_for(model.stack.backbone)
    settings = {"kind": "attack", "algorithm": "freelb", "steps": 3, "weight": 0.6, "step_size": 0.2, "initial": 0.3}
    assert regularizer_of(settings).passes == 4
    points: list[torch.Tensor] = []
    for shown in passes(model, batch, settings):
        points += [view.perturbation.delta.detach().clone() for view in shown.views if view.perturbation]
        model(shown)[0].backward()
    ours = {name: p.grad.clone() for name, p in model.trainable().items()}
    assert len(points) == 3
    views = [BatchView(batch)] + [BatchView(batch, perturbation=Shift(EMBEDDINGS, delta)) for delta in points]
    losses = [cross_entropy(model, view) for view in views]
    total = losses[0] + 0.6 / 3 * (losses[1] + losses[2] + losses[3])
    by_hand = torch.autograd.grad(total, list(model.trainable().values()))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours.values(), by_hand, strict=True))
    pgd = perturber(model, {**settings, "algorithm": "pgd", "steps": 2})
    assert torch.allclose(points[2], pgd.worst(batch, None), atol=1e-6), "its points are those of the same ascent"


def test_freelb_draws_the_same_dropout_in_every_step() -> None:
    model = tuned("roberta", PROMPT)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    model.train()
    seen: list[torch.Tensor] = []
    dropout = model.stack.layers[1].output.dropout
    dropout.register_forward_hook(lambda _, inputs, output: seen.append(output == 0))
    for shown in passes(model, batch_for(model.stack.backbone), {"kind": "attack", "algorithm": "freelb", "steps": 3}):
        model(shown)[0].backward()
    clean, *steps = seen
    assert len(steps) == 3 and all(torch.equal(a, b) for a, b in pairwise(steps))
    assert not torch.equal(clean, steps[0])


def test_symmetric_kl_is_both_divergences() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(4, 5), torch.randn(4, 5)
    p, q = one.softmax(1), other.softmax(1)
    expected = (p * (p / q).log()).sum(1).mean() + (q * (q / p).log()).sum(1).mean()
    assert torch.allclose(symmetric_kl(one, other), expected)
    assert symmetric_kl(one, one) == 0
    model = tuned("roberta", PROMPT)
    batch = batch_for(model.stack.backbone)
    shown = only_pass(model, batch, {"kind": "noise", "sigma": 0.5, "loss": "symmetric_kl", "weight": 3.0})
    logits = model.logits(shown.batch, [shown.edit]).split(3)
    total, clean = model(shown)
    assert torch.allclose(total, clean + 3 * symmetric_kl(*logits), atol=1e-6) and total > clean


def test_shift_leaves_the_prompt_alone() -> None:
    states = torch.randn(2, 7, 4)
    stream = Stream(states, torch.ones(2, 7, dtype=torch.bool), prompt_tokens=3)
    batch = batch_for(tiny("bert"), (4, 4))
    edit = ForwardPass((BatchView(batch, perturbation=Shift(1, torch.ones(2, 4, 4))),)).edit
    shifted = edit(1, stream)
    assert torch.equal(shifted.states[:, :3], states[:, :3])
    assert torch.equal(shifted.text, stream.text + 1)
    assert edit(0, stream) is stream


def test_a_shift_of_the_words_is_what_other_words_give() -> None:
    """The perturbation comes before positions and norm."""
    model = tiny("roberta")
    stack, batch = build(model), batch_for(model)
    target = batch.ids.flip(0)
    difference = stack.word_embeddings(target) - stack.word_embeddings(batch.ids)
    shift = ForwardPass((BatchView(batch, perturbation=Shift(EMBEDDINGS, difference)),)).edit
    with torch.no_grad():
        other = stack.run(replace(batch, ids=target)).states
        shifted = stack.run(batch, [shift]).states
    assert torch.allclose(other, shifted, atol=1e-5)


# in text


def edited(operation: str, batch: Batch, hits: torch.Tensor, words: Words = TOKENS) -> Batch:
    return OPERATIONS[operation](batch, hits, words)


def test_text_noise_edits_at_its_rate_and_only_the_users_words() -> None:
    model = tuned("roberta", PROMPT)
    batch = batch_for(model.stack.backbone, (46,) * 60)
    words = only_pass(model, batch, {"kind": "noise", "space": "text", "rate": 0.3}).views[-1].batch
    changed = words.ids != batch.ids
    assert not (changed & ~batch.perturbable_mask).any() and (words.ids[changed] == TOKENS.mask).all()
    n = int(batch.perturbable_mask.sum())
    share = changed.sum().item() / n
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5, (share, n)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_answer_stays_at_its_token(operation: str) -> None:
    """So do the template's tokens around it, in their order."""
    batch = batch_for(tiny("roberta"))
    batch = replace(batch, ids=torch.where(batch.perturbable_mask, batch.ids, batch.ids + 1000) * batch.text_mask)
    torch.manual_seed(0)
    words = edited(operation, batch, batch.perturbable_mask & (torch.rand(batch.ids.shape) < 0.6))
    assert not torch.equal(words.ids, batch.ids)
    for i in range(3):
        before, after = row(batch, i), row(words, i)
        assert after.ids[0, after.answer[0]] == before.ids[0, before.answer[0]]
        fixed, still = (one.ids[0][~one.perturbable_mask[0]].tolist() for one in (before, after))
        assert fixed == still and min(fixed) > 1000
        assert (words.ids[i, after.ids.shape[1] :] == TOKENS.pad).all()


def test_delete_drops_the_hits_and_leaves_one_word() -> None:
    batch = batch_for(tiny("roberta"))
    words = edited("delete", batch, batch.perturbable_mask)
    assert words.perturbable_mask.sum(1).tolist() == [1, 1, 1]
    hits = torch.zeros_like(batch.perturbable_mask)
    hits[0, 2] = True
    kept = edited("delete", batch, hits)
    assert row(kept, 0).ids.tolist() == [[*batch.ids[0, :2].tolist(), *batch.ids[0, 3:9].tolist()]]
    assert torch.equal(row(kept, 1).ids, row(batch, 1).ids)


def test_swap_exchanges_neighbours() -> None:
    batch = batch_for(tiny("roberta"))
    hits = torch.zeros_like(batch.perturbable_mask)
    hits[1, [2, 3, 4, 7]] = True  # 2-3 and 4-5 change places: 3 is part of the first pair already
    expected = batch.ids[1].clone()
    expected[[2, 3, 4, 5, 7, 8]] = batch.ids[1, [3, 2, 5, 4, 8, 7]]
    assert torch.equal(edited("swap", batch, hits).ids[1], expected)
    last = batch.perturbable_mask & ~batch.perturbable_mask.roll(-1, 1)
    assert torch.equal(edited("swap", batch, last).ids, batch.ids), "the last word has no word to its right"


def test_insert_stays_within_the_longest_text() -> None:
    batch = batch_for(tiny("roberta"))
    words = edited("insert", batch, batch.perturbable_mask, TOKENS._replace(longest=14))
    assert words.text_mask.sum(1).tolist() == [14, 14, 7]
    assert words.ids.shape == words.perturbable_mask.shape == (3, 14) or words.ids.shape[1] >= 14
    first = row(words, 1)
    assert first.ids[0, 0] == batch.ids[1, 0] and first.ids[0, 2] == batch.ids[1, 1], "before the word it hit"


@pytest.mark.parametrize("family", MODELS)
def test_text_attack_raises_the_loss_within_its_rate(family: str) -> None:
    model = tuned(family, PROMPT)
    batch = batch_for(model.stack.backbone, (20, 14, 9, 12))
    shown = only_pass(model, batch, {"kind": "attack", "space": "text", "rate": 0.2, "cosine": -1.0})
    words = shown.views[1].batch
    changed = (words.ids != batch.ids) & batch.text_mask
    assert not (changed & ~batch.perturbable_mask).any()
    allowed = (batch.perturbable_mask.sum(1) * 0.2).long().clamp_min(1)
    assert (changed.sum(1) <= allowed).all() and changed.any()
    clean, attacked = (cross_entropy(model, view).item() for view in shown.views)
    assert attacked > clean, (attacked, clean)


def test_text_attack_keeps_to_near_words() -> None:
    model = tuned("roberta", PROMPT)
    batch = batch_for(model.stack.backbone, (20, 14, 9, 12))
    weight = model.stack.word_embeddings.weight
    unit = nn.functional.normalize(weight, dim=1)
    words = only_pass(model, batch, {"kind": "attack", "space": "text", "rate": 0.5, "cosine": 0.1}).views[1].batch
    changed = (words.ids != batch.ids) & batch.text_mask
    cosines = (unit[words.ids] * unit[batch.ids]).sum(-1)[changed]
    assert changed.any() and (cosines >= 0.1).all(), cosines
    nothing = only_pass(model, batch, {"kind": "attack", "space": "text", "cosine": 1.0}).views[1].batch
    assert torch.equal(nothing.ids * batch.text_mask, batch.ids * batch.text_mask)


def test_text_attack_knows_new_words_in_later_batches() -> None:
    model = tuned("roberta", PROMPT)
    settings = {"kind": "attack", "space": "text", "cosine": -1.0}
    one, other = batch_for(model.stack.backbone), batch_for(model.stack.backbone, (16, 13, 11))
    together, alone = perturber(model, settings), perturber(model, settings)
    together.rewrite(one)
    theirs, ours = alone.rewrite(other), together.rewrite(other)
    assert all((theirs[i].ids == ours[i].ids).all() for i in theirs)


# settings


@pytest.mark.parametrize(
    ("settings", "layers_12_first_0", "layers_12_first_6"),
    [
        ({"kind": "none"}, 2, 1.5),
        ({"kind": "noise"}, 4, 3),
        ({"kind": "noise", "space": "text"}, 4, 3),
        ({"kind": "attack", "steps": 3}, 4 + 2 * 3, 3 + 2 * 3),
        ({"kind": "attack", "steps": 3, "algorithm": "freelb"}, 2 + 2 * 3, 1.5 + 2 * 3),
        ({"kind": "attack", "depth": 6, "steps": 2}, 4 + 0.5 + 2, 0.5 + 4 * 1.0),
        ({"kind": "attack", "depth": 6, "steps": 2, "algorithm": "freelb"}, 2 * 3, 0.5 + 3 * 1.0),
    ],
)
def test_counted_costs(settings: dict, layers_12_first_0: float, layers_12_first_6: float) -> None:
    """At the words those of the notes' count: plain 2, noise 4, attack 4 + 2 K, FreeLB 2 + 2 K."""
    count = regularizer_of(settings).equivalents
    assert count(12, 0, 0.0) == pytest.approx(layers_12_first_0)
    assert count(12, 6, 0.0) == pytest.approx(layers_12_first_6)


@pytest.mark.parametrize(
    ("regularizer", "message"),
    [
        ({"kind": "noise", "space": "txt"}, r"space: found 'txt', expected one of embeddings, text"),
        ({"kind": "noise", "sigma": 1.0, "sigma_relative": 1.0}, r"one of sigma and sigma_relative"),
        ({"kind": "noise", "clean_weight": 0, "loss": "symmetric_kl"}, r"a clean_weight above 0"),
        ({"kind": "attack", "algorithm": "freelb", "loss": "symmetric_kl"}, r"cross_entropy with freelb"),
        ({"kind": "noise", "space": "text", "operation": "erase"}, r"operation: found 'erase'"),
        ({"kind": "noise", "depth": 3}, r"depth"),
        ({"kind": "noise", "depth": "word"}, r"depth: found 'word', expected: words or a layer"),
        ({"kind": "noise", "space": "text", "sigma": 1.0}, r"unknown key: found 'sigma'"),
    ],
)
def test_what_is_wrong_is_said_when_the_matrix_is_read(regularizer: dict, message: str, expand: Expand) -> None:
    with pytest.raises(InputError, match=message):
        expand({"regularizer": [regularizer]})
