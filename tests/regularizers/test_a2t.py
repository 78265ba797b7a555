"""A2T with TextAttack itself where it is installed; without the recipe's downloads, on words of the toy language."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from matrices import Expand

from bench.checks.preflight.check import measure, model
from bench.checks.preflight.probes import probes
from bench.checks.preflight.verdicts import same
from bench.core.settings import InputError
from bench.data.batches import collate
from bench.models import toy
from bench.regularizers import attack_text
from bench.regularizers.perturbers import Run, a2t
from bench.training.setup import prepare

A2T = {"kind": "attack", "space": "text", "attacker": "a2t"}
INSTALLED = attack_text.missing() is None


class Small(a2t.A2t):
    def build(self, model: Any) -> Any:
        textattack = importlib.import_module("textattack")
        constraints = textattack.constraints.pre_transformation
        words = [word for pool in toy.vocabulary()["pools"] for value in pool for word in value]

        class AnyWord(textattack.transformations.WordSwap):
            def _get_replacement_words(self, word: str) -> list[str]:
                return [other for other in words if other != word][:20]

        return textattack.Attack(
            textattack.goal_functions.UntargetedClassification(model),
            [constraints.RepeatModification(), constraints.MaxModificationRate(max_rate=0.1, min_threshold=4)],
            AnyWord(),
            textattack.search_methods.GreedyWordSwapWIR(wir_method="gradient", truncate_words_to=model.max_length),
        )


@pytest.mark.skipif(not INSTALLED, reason="TextAttack is not installed")
@pytest.mark.filterwarnings("ignore")  # the library's own, of many kinds
def test_attacked_texts_are_encoded_again_and_raise_the_loss(expand: Expand) -> None:
    (cell,) = expand({"regularizer": [A2T]})
    tuned, encodings = prepare(cell)
    texts = [example.texts for example in encodings.splits.train]
    perturber = Small(cell.regularizer, Run(tuned, encodings.vocabulary, templater=encodings.templater, texts=texts))
    count = range(len(encodings.train))
    batch = collate(encodings.train, encodings.vocabulary.pad, count, count, torch.device("cpu"))
    perturber.keep(perturber.rewrite(batch))
    (shown,) = perturber.passes(batch)
    clean, words = (view.batch for view in shown.views)
    changed = (clean.ids != words.ids).sum(1)
    assert changed.any() and (changed <= 4).all() and not ((clean.ids != words.ids) & ~clean.perturbable_mask).any()
    with torch.no_grad():
        before, after = (tuned.loss(tuned.logits(one), one).item() for one in (clean, words))
    assert after > before, (after, before)


@pytest.mark.skipif(INSTALLED, reason="TextAttack is installed")
def test_what_to_install_is_said_when_the_matrix_is_read(expand: Expand) -> None:
    with pytest.raises(InputError, match=r"attacker: a2t needs TextAttack.*promptzero\[attack\]"):
        expand({"regularizer": [A2T]})


def test_its_settings_are_its_own(expand: Expand) -> None:
    with pytest.raises(InputError, match="with a2t its own rate 0.1, cosine 0.8, neighbours 20"):
        expand({"regularizer": [{**A2T, "rate": 0.2}]})


def test_it_is_not_for_zero3_on_several_ranks(expand: Expand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_text, "missing", lambda: None)
    with pytest.raises(InputError, match="other numbers of passes on each rank, which ZeRO-3 cannot"):
        expand({"regularizer": [A2T], "zero": ["zero3"], "ranks": [2]})
    assert len(expand({"regularizer": [A2T], "zero": ["zero3", "zero2"], "ranks": [1]})) == 2


def test_preflight_checks_it_on_tokens(expand: Expand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_text, "missing", lambda: None)
    (probe,) = probes(expand({"regularizer": [A2T]}))
    plain, again = (measure(model(probe.cell), probe.cell, torch.device("cpu"), torch.float32) for _ in range(2))
    assert same(plain, again)
