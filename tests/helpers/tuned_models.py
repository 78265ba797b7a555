"""A method, a head and a regularizer of the tables on a tiny model, as a cell would have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import torch
from pairs import covering
from tables import MECHANISMS, METHOD_TABLE, MODEL_TYPES, REGULARIZER_FORMS, REGULARIZER_TABLE
from tiny_models import LAYERS, MODELS, batch_for, tiny

from bench.core.settings import parse_kind
from bench.data import batches
from bench.matrix import field_parsers
from bench.methods import METHODS, Method
from bench.methods.tuned_model import TunedModel
from bench.models.backbones import FAMILIES, FORMS, Backbone
from bench.models.forward_passes import ForwardPass
from bench.models.heads import HEADS, AnswerWords, Linear
from bench.models.stack import Batch, CachedPrefix
from bench.models.stack.families import build
from bench.models.vocabulary import Vocabulary
from bench.regularizers import Regularizer
from bench.regularizers.perturbers import Perturber, Rewriting, Run, perturber_of
from bench.training.setup import Encodings


def name(value: object) -> str:
    return "-".join(str(one) for one in value.values()) if isinstance(value, dict) else str(value)


def method_of(settings: dict) -> Method:
    problems: list = []
    made = parse_kind(METHODS, settings, "method", problems)
    assert made is not None, problems
    return made


def fault(method: dict, family: str) -> str | None:
    """What a matrix would say against this method on this family."""
    backbone = Backbone(name=family, source="folder", location="", model_type=MODEL_TYPES[family], layers=LAYERS)
    return method_of(method).check(backbone)


VOCABULARY = Vocabulary(classes=[[7], [8, 9]], ordinary=range(5, 97), pad=0, mask=4)
SOME_METHODS = [
    {"kind": "full"},
    {"kind": "prefix_tuning", "length": 3},
    {"kind": "late_prompt", "depth": 1, "generator": "naive", "bottleneck": 4},
    {"kind": "peft", "config": {"peft_type": "LORA", "r": 2}},
]


def cases(methods: list[dict] = METHOD_TABLE, families: Iterable[str] = tuple(MODELS)) -> list[tuple[dict, str]]:
    """Methods x families, without what a matrix would refuse."""
    return [(method, family) for method in methods for family in families if fault(method, family) is None]


def mechanism(method: dict) -> str:
    return MECHANISMS.get(method["kind"], method["kind"])


def form(family: str) -> str:
    return FORMS.get(FAMILIES[MODEL_TYPES[family]], "masked")


def covering_cases(names: str, rows: Iterable[tuple]) -> pytest.MarkDecorator:
    """By default every method on a family of each form, and on every family a method of each mechanism."""
    return covering(names, rows, name, method=mechanism, family=form)


METHODS_AND_FAMILIES = covering_cases("method, family", cases())
CONTRACT = [(*case, regularizer) for case in cases() for regularizer in REGULARIZER_TABLE]
CONTRACT += [(*case, regularizer) for case in cases(SOME_METHODS) for regularizer in REGULARIZER_FORMS]


def tuned(family: str, settings: dict, head: AnswerWords | Linear | None = None) -> TunedModel:
    method, stack = method_of(settings), build(tiny(family))
    torch.manual_seed(4)
    attachment = method.attach(stack, VOCABULARY)
    return TunedModel(stack, attachment, (head or HEADS[method.heads[0]]()).build(stack, [7, 8]))


def regularizer_of(settings: dict) -> Regularizer:
    problems: list = []
    made = field_parsers.parser("regularizer")(settings, "regularizer", problems)
    assert made is not None, problems
    return made


def perturber(model: TunedModel, settings: dict) -> Perturber:
    return perturber_of(regularizer_of(settings), Run(model, VOCABULARY))


def passes(
    model: TunedModel, batch: Batch, settings: dict, prefix: CachedPrefix | None = None
) -> Iterator[ForwardPass]:
    """What a batch is trained on, its examples rewritten first where that is how it is perturbed."""
    made = perturber(model, settings)
    if isinstance(made, Rewriting):
        made.keep(made.rewrite(batch))
    return made.passes(batch, prefix)


def encodings_of(model: TunedModel, lengths: tuple[int, ...] = (9, 12, 5, 7)) -> Encodings:
    """All in `train`; the other splits have some of the same."""
    batch = batch_for(model.stack.backbone, lengths)
    examples = list(batches.rows(batch, batch.ids).values())
    return Encodings(examples, examples[:1], examples[1:], None, [7, 8], VOCABULARY, None)  # type: ignore[arg-type]
