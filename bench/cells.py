"""Cells, and the Matrix whose product they are.

A Cell is one measurement: frozen, and named by a readable part and a hash of its whole content.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from bench.backbones import NO_FLASH, Backbone
from bench.heads import HEADS, AnswerWords, HeadSettings
from bench.landscape import Landscape
from bench.methods import METHODS, Method
from bench.perturb import Regularizer, class_of
from bench.protocols import PROTOCOLS, facts
from bench.records import Failure, Labels, Predicted, Record, Status, now
from bench.seeds import VARY, Randomness, Vary, seed_of
from bench.settings import Settings
from bench.tasks import RANDOM, Regime, Task
from bench.zero import Zero


class Tuned(Settings):
    """What a cell has to do with a choice of hyper-parameters on dev; see bench.tuning."""

    role: Literal["tune", "report"]
    setting: str  # of the choice: the same for all its candidates
    candidate: str  # the values that this cell has
    seeds: tuple[int, ...]  # that the choice was made on


class Cell(Settings):
    backbone: Backbone
    task: Task
    regime: Regime
    method: Method
    regularizer: Regularizer
    head: HeadSettings = AnswerWords()
    zero: Zero
    ranks: int = Field(default=1, ge=1)  # world size: processes, one per GPU or per CPU slot
    seed: int = Field(default=0, ge=0)
    vary: Vary = VARY  # which randomness follows the seed; the rest is that of seed 0
    steps: int = Field(default=300, ge=1)  # optimizer steps
    epochs: int | None = Field(default=None, ge=1)  # over the training examples, in place of `steps`
    batch_size: int = Field(default=16, ge=1)  # examples per optimizer step: ranks x micro-batch x accumulation
    micro_batch_size: int | None = Field(default=None, ge=1)  # per rank and pass; None: no accumulation
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    weights: Literal["pretrained", "random"] = "pretrained"  # random: the backbone's shape alone, for its costs
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    compile: bool = False  # the layers by torch.compile
    feature_cache: bool = False  # what the frozen layers below all training give, from disk; where there are any
    select: Literal["best_dev", "last"] = "best_dev"  # which step's weights are reported on test
    evaluate_every: int | None = Field(default=None, ge=1)  # steps between evaluations on dev; None: ten in all
    patience: int | None = Field(default=None, ge=1)  # evaluations without a gain on dev that end training; None: none
    max_length: int = Field(default=128, ge=8)  # tokens of an example, template included
    lower_dropout: bool = False  # dropout in the frozen layers below the method, as in LPT's code
    checkpointing: bool = False  # recompute layers in the backward: non-reentrant
    kernels: Literal["auto", "reference", "compiled", "triton"] = "auto"  # the form of what perturbs
    landscape: Landscape | None = None  # loss surfaces around the trained weights; None: not measured
    protocol: str | None = None  # the recipe of a paper that fills in what a matrix leaves open; see bench.protocols
    tuning: Tuned | None = None  # set where a matrix has hyper-parameters to choose from

    @functools.cached_property
    def name(self) -> str:
        """What the cell's record is called: a readable part, and a hash of the whole content."""
        values = {name: getattr(self, name) for name in FIELDS}
        return compose_name(
            {name: slug(value) for name, value in values.items()},
            {name: identity_json(value) for name, value in values.items()},
        )

    @property
    def micro(self) -> int:
        return self.micro_batch_size or self.batch_size // self.ranks

    @property
    def accumulation(self) -> int:
        return self.batch_size // (self.ranks * self.micro)

    def seed_of(self, which: Randomness) -> int:
        return seed_of(which, self.seed, self.vary)

    def resolved(self, examples: int) -> Cell:
        """With the steps that its epochs are of so many training examples."""
        if self.epochs is None:
            return self
        return changed(self, steps=math.ceil(self.epochs * examples / self.batch_size), epochs=None)

    @property
    def cost_only(self) -> bool:
        """Whether it has costs alone: of random weights quality is nothing to measure."""
        return self.weights == "random"

    def content(self) -> dict[str, Any]:
        """The cell as plain data, for its record."""
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields}

    def labels(self) -> Labels:
        return Labels(
            backbone=self.backbone.label,
            task=self.task.label,
            regime=self.regime.label,
            method=self.method.label,
            recipe=self.method.recipe_label,
            regularizer=self.regularizer.label,
            head=self.head.label,
            zero=self.zero.label,
            departures=self.departures(),
        )

    def departures(self) -> tuple[str, ...]:
        """Where the cell has other values than its protocol."""
        if self.protocol is None:
            return ()
        known = facts(self.backbone, self.task, self.method.kind, self.regularizer.kind)
        return PROTOCOLS[self.protocol].departures(known, self.content())

    def without_result(
        self, status: Status, failure: Failure, started: str | None = None, predicted: Predicted | None = None
    ) -> Record:
        """The record of a cell that failed, or was not run: then it is not known to have `started`."""
        finished = now()
        return Record(
            name=self.name,
            cell=self.content(),
            labels=self.labels(),
            status=status,
            failure=failure,
            predicted=predicted,
            started=started or finished,
            finished=finished,
        )

    def problems(self) -> list[tuple[str, str]]:
        """What does not go together, as (field, message)."""
        found = [
            ("method", self.method.check(self.backbone) or self._method_problem()),
            ("regularizer", self.regularizer.check(self.backbone) or self._regularizer_problem()),
            ("batch_size", self._batch_problem()),
            ("head", self._head_problem()),
            ("backbone", self._backbone_problem()),
            ("task", self._task_problem()),
            ("regime", self._regime_problem()),
            ("landscape", self._landscape_problem()),
            ("attention", self._attention_problem()),
            ("compile", self._compile_problem()),
            ("feature_cache", self._feature_cache_problem()),
            ("patience", self._patience_problem()),
            ("epochs", self._epochs_problem()),
        ]
        return [(field, message) for field, message in found if message is not None]

    def _batch_problem(self) -> str | None:
        if self.batch_size >= self.ranks and self.batch_size % (self.ranks * self.micro) == 0:
            return None
        micro = "" if self.micro_batch_size is None else f" x micro_batch_size {self.micro_batch_size}"
        return f"found {self.batch_size}, expected a multiple of ranks {self.ranks}{micro}"

    def _method_problem(self) -> str | None:
        if self.head.kind in self.method.heads:
            return None
        return f"{self.method.kind} trains with the head {' or '.join(self.method.heads)}, found {self.head.kind}"

    def _regularizer_problem(self) -> str | None:
        if not (self.regularizer.uneven and self.zero.stage == 3 and self.ranks > 1):
            return None
        return f"{self.regularizer.label} makes other numbers of passes on each rank, which ZeRO-3 cannot"

    def _feature_cache_problem(self) -> str | None:
        if not (self.feature_cache and self.lower_dropout):
            return None
        return "found true, expected false with lower_dropout: the lower layers give something else in each pass"

    def _head_problem(self) -> str | None:
        if not self.backbone.lm_head and self.backbone.form != "masked":
            return f"{self.backbone.name} has a decoder and no LM head: expected a checkpoint with one"
        if self.backbone.form == "encoder_decoder" and self.head.kind == "linear" and self.head.pooling is not None:
            return f"found pooling {self.head.pooling}, but {self.backbone.name} answers in its decoder: expected none"
        if self.backbone.lm_head or self.head.kind == "linear":
            return None
        return f"found answer_words, but {self.backbone.name} has no LM head: expected linear"

    def _backbone_problem(self) -> str | None:
        name = self.backbone.name
        if self.cost_only and not self.backbone.shaped:
            expected = "a name with a shape in `bench list backbones`, or a folder with a config.json"
            return f"found weights random, but {name} has no shape built in: expected {expected}"
        if not self.cost_only and not self.backbone.weighted:
            return f"{name}: found no *.safetensors in {self.backbone.location}: expected them, or weights: random"
        return None

    def _task_problem(self) -> str | None:
        if self.cost_only == (self.task.source == RANDOM.source):
            return None
        expected = f"task {RANDOM.name}" if self.cost_only else "weights: random"
        return f"found {self.task.name} with weights {self.weights}, expected {expected}"

    def _regime_problem(self) -> str | None:
        if self.regime.fewglue and not self.task.fewglue:
            return f"found fewglue, which {self.task.name} has no examples of: expected another regime"
        if self.task.source != RANDOM.source or self.regime == Regime():
            return None
        return f"found {self.regime.label}, but {self.task.name} makes the examples that the steps need: expected full"

    def _landscape_problem(self) -> str | None:
        if self.landscape is None or not self.cost_only:
            return None
        return "found a landscape, but weights are random: there is no trained model to look around"

    def _attention_problem(self) -> str | None:
        if self.attention != "flash_attention_2":
            return None
        if self.precision == "fp32":
            return "found flash_attention_2 with precision fp32, expected bf16 or fp16"
        if self.backbone.model_type in NO_FLASH:
            return f"found flash_attention_2, which {self.backbone.model_type} does not have"
        return None

    def _compile_problem(self) -> str | None:
        if self.compile and self.zero.stage == 3:
            return (
                f"found true with {self.zero.label}: what ZeRO-3 does as layers run breaks their graphs, and slows them"
            )
        return None

    def _patience_problem(self) -> str | None:
        if self.patience is None or (self.select == "best_dev" and not self.cost_only):
            return None
        found = "weights random, which are not evaluated" if self.cost_only else f"select {self.select}"
        return f"found {self.patience} with {found}: expected none, or pretrained weights and select: best_dev"

    def _epochs_problem(self) -> str | None:
        wrong = f"found {self.epochs}, but {RANDOM.name} makes the examples that the steps need: expected steps"
        return wrong if self.epochs is not None and self.cost_only else None


FIELDS = tuple(sorted(Cell.model_fields))
READABLE = ("backbone", "task", "regime", "method", "regularizer", "zero")


def identity_json(value: object) -> str:
    """One field of a cell as canonical JSON, as it goes into the hash."""
    if isinstance(value, Backbone):
        value = value.identity
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def slug(value: object) -> str:
    """One field of a cell as it goes into the readable part of the name."""
    label = getattr(value, "label", value)
    return re.sub(r"[^A-Za-z0-9_-]+", "-", str(label)).strip("-")[:48] or "unnamed"


def compose_name(slugs: Mapping[str, str], jsons: Mapping[str, str]) -> str:
    """`backbone.task.regime.method.regularizer.zero.x<ranks>.s<seed>-<hash of all fields>`."""
    content = ",".join([f'"{name}":{jsons[name]}' for name in FIELDS])
    readable = ".".join([slugs[name] for name in READABLE])
    return f"{readable}.x{slugs['ranks']}.s{slugs['seed']}-{digest(content)}"


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def _plain(value: object) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Settings) else value


def changed(cell: Cell, **values: object) -> Cell:
    """Another cell; unlike pydantic's copy, without the name of the first."""
    return Cell.model_construct(**{name: getattr(cell, name) for name in FIELDS} | values)  # pyright: ignore[reportArgumentType]  # fields by name


def rebuild(content: dict[str, Any]) -> Cell:
    """The Cell whose `content()` this is."""
    parts: dict[str, type[Settings]] = {
        "backbone": Backbone,
        "task": Task,
        "regime": Regime,
        "method": METHODS[content["method"]["kind"]],
        "regularizer": class_of(content["regularizer"]),
        "head": HEADS[content["head"]["kind"]],
        "zero": Zero,
        "landscape": Landscape,
        "tuning": Tuned,
    }
    made: dict[str, Any] = {
        name: parts[name].model_validate(value) if name in parts and value is not None else value
        for name, value in content.items()
    }
    made["vary"] = tuple(made["vary"])  # JSON has lists
    return Cell.model_construct(**made)
