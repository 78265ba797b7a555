"""The built-in world: its language, and backbones that are trained once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

from bench import toy
from bench.backbones import BACKBONES
from bench.tasks import TASKS

QUICK = {**toy.RECIPE, "steps": 2, "sentences": 200, "batch_size": 4}


def test_words_are_each_in_one_place() -> None:
    words = toy.vocabulary()
    flat = [w for pair in words["pools"] for pool in pair for w in pool]
    flat += [w for pair in words["answers"] for w in pair] + words["fillers"]
    assert len(set(flat)) == len(flat) == 2 * toy.ATTRIBUTES * (toy.POOL + 1) + toy.FILLERS


def test_words_of_a_sentence_follow_its_attributes() -> None:
    words = toy.vocabulary()
    right = wrong = fillers = 0
    for text, values in toy.sentences(2000, "test"):
        pools = [set(words["pools"][a][v]) for a, v in enumerate(values)]
        for word in text.split():
            agrees = any(word in pool for pool in pools)
            filler = word in words["fillers"]
            right, wrong, fillers = right + agrees, wrong + (not agrees and not filler), fillers + filler
    # about 26,000 words: the standard error of either share is below 0.3 %
    assert fillers / (right + wrong + fillers) == pytest.approx(toy.FILLER_SHARE, abs=0.015)
    assert wrong / (right + wrong) == pytest.approx(toy.WRONG_SHARE, abs=0.015)


def test_foreign_answer_words_never_answered() -> None:
    answers = {word for pair in toy.vocabulary()["answers"] for word in pair}
    for name, task in TASKS.items():
        if task.source == "built-in":
            assert set(task.words) <= answers if "natural" in name else not set(task.words) & answers
            assert len(set(task.words)) == 2


def test_examples_are_balanced_and_the_same_each_time() -> None:
    made = toy.examples(1, "test")
    assert made == toy.examples(1, "test") and len(made) == 500
    assert 200 < sum(example["label"] for example in made) < 300
    assert not {e["sentence"] for e in made} & {e["sentence"] for e in toy.examples(1, "train")}


@pytest.mark.parametrize("name", toy.KINDS)
def test_a_backbone_is_trained_once_and_loads_as_any_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(toy, "RECIPE", QUICK)
    steps: list[int] = []
    folder = toy.ensure(name, lambda step, total: steps.append(step))
    assert steps == [1, 2]
    assert toy.ensure(name, lambda step, total: steps.append(step)) == folder and steps == [1, 2]
    config = AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.num_hidden_layers) == (BACKBONES[name].model_type, BACKBONES[name].layers)
    tokens = AutoTokenizer.from_pretrained(folder)
    text = toy.sentences(1, 0)[0][0]
    assert tokens.unk_token_id not in tokens(text)["input_ids"]
    assert tokens(text)["input_ids"][-1] == (tokens.eos_token_id if name == "toy-encoder" else tokens.encode(text)[-1])


def test_concurrent_starts_train_once(tmp_path: Path) -> None:
    script = f"""
from bench import toy
toy.RECIPE = {QUICK!r}
steps = []
toy.ensure("toy-encoder", lambda step, total: steps.append(step))
print(len(steps))
"""
    env = {"BENCH_CACHE": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    several = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    trained = [process.communicate()[0].strip()[-1] for process in several]
    assert sorted(trained) == ["0", "0", "2"]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1, "nothing partial stays"


def test_a_change_of_the_recipe_is_another_world(monkeypatch: pytest.MonkeyPatch) -> None:
    before = toy.fingerprint("toy-encoder")
    monkeypatch.setattr(toy, "RECIPE", QUICK)
    assert toy.fingerprint("toy-encoder") != before != toy.fingerprint("toy-decoder")
