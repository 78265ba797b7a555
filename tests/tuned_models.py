"""A method, a head and a regularizer of the tables on a tiny model, as a cell would have them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from models import LAYERS, MODELS, batch_for, tiny
from tables import METHOD_TABLE

from bench import batches, fields
from bench.backbones import Backbone
from bench.heads import HEADS, AnswerWords, Linear
from bench.methods import METHODS, Method
from bench.perturb import Perturber, Regularizer, Rewriting, Run
from bench.prepare import Encodings
from bench.settings import parse_kind
from bench.stack import Batch
from bench.stack.families import build
from bench.tuned import Tuned
from bench.views import Pass
from bench.vocabulary import Vocabulary


def name(value: object) -> str:
    return "-".join(str(one) for one in value.values()) if isinstance(value, dict) else str(value)


def method_of(settings: dict) -> Method:
    problems: list = []
    made = parse_kind(METHODS, settings, "method", problems)
    assert made is not None, problems
    return made


def accepts(method: dict, family: str) -> str | None:
    """What a matrix would say against this method on this family."""
    model_type = tiny(family).config.model_type
    backbone = Backbone(name=family, source="folder", location="", model_type=model_type, layers=LAYERS)
    return method_of(method).check(backbone)


VOCABULARY = Vocabulary(classes=[[7], [8, 9]], ordinary=range(5, 97), pad=0, mask=4)
# a method with a family that a matrix would refuse it with is no case
CASES = [(method, family) for method in METHOD_TABLE for family in MODELS if accepts(method, family) is None]
METHODS_AND_FAMILIES = pytest.mark.parametrize(("method", "family"), CASES, ids=name)


def tuned(family: str, settings: dict, head: AnswerWords | Linear | None = None) -> Tuned:
    method, stack = method_of(settings), build(tiny(family))
    torch.manual_seed(4)
    attachment = method.attach(stack, VOCABULARY)
    return Tuned(stack, attachment, (head or HEADS[method.heads[0]]()).build(stack, [7, 8]))


def regularizer_of(settings: dict) -> Regularizer:
    problems: list = []
    made = fields.parser("regularizer")(settings, "regularizer", problems)
    assert made is not None, problems
    return made


def perturber(model: Tuned, settings: dict) -> Perturber:
    return regularizer_of(settings).on(Run(model, VOCABULARY))


def passes(model: Tuned, batch: Batch, settings: dict) -> Iterator[Pass]:
    """What a batch is trained on, its examples rewritten first where that is how it is perturbed."""
    made = perturber(model, settings)
    if isinstance(made, Rewriting):
        made.keep(made.rewrite(batch))
    return made.passes(batch)


SOME_METHODS = [
    {"kind": "full"},
    {"kind": "prefix_tuning", "length": 3},
    {"kind": "late_prompt", "depth": 1, "generator": "naive", "bottleneck": 4},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}},
]


def encodings_of(model: Tuned, lengths: tuple[int, ...] = (9, 12, 5, 7)) -> Encodings:
    """All in `train`; the other splits have some of the same."""
    batch = batch_for(model.stack.backbone, lengths)
    examples = list(batches.rows(batch, batch.ids).values())
    return Encodings(examples, examples[:1], examples[1:], None, [7, 8], VOCABULARY, None)  # type: ignore[arg-type]
