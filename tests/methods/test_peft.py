"""Configs of peft that are taken without asking peft are those that it takes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bench.methods.modules import peft_configs
from bench.methods.peft import USUAL, USUAL_BACKBONES, Peft, is_usual

# of every usual field, values that pass without peft, and those that do not
VALUES: dict[str, list[Any]] = {
    "r": [1, 8],
    "lora_alpha": [1, 32],
    "use_dora": [True, False],
    "use_rslora": [True, False],
    "target_modules": [["query", "value"], ["q_proj"]],
    "oft_block_size": [1, 16],
}
ODD: list[Any] = [0, -1, 2.5, "8", None, [], [1], {}]


@pytest.mark.parametrize("kind", USUAL)
def test_peft_takes_what_passes_without_it(kind: str) -> None:
    names = list(USUAL[kind])
    for values in itertools.product(*(VALUES[name] for name in names)):
        config = {"peft_type": kind, **dict(zip(names, values, strict=True))}
        if kind == "OFT":
            config.pop("r", None)
        assert is_usual(config)
        peft_configs.parse(config)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in USUAL.items() for name in [*names, "x"]])
def test_peft_is_asked_about_everything_else(kind: str, name: str) -> None:
    for value in ODD:
        assert not is_usual({"peft_type": kind, name: value})


@pytest.mark.parametrize("kind", USUAL)
def test_peft_knows_modules_of_the_usual_backbones(kind: str) -> None:
    known = peft_configs.backbones_with_targets(kind)
    assert known is not None and all(one in known for one in USUAL_BACKBONES)
    assert is_usual(Peft(config={"peft_type": kind}).config)
