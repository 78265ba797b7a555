"""Cells, of which a Matrix is the product.

A Cell is one measurement: frozen, and named by a readable part and a hash of its whole content.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.core.seeds import VARY, Randomness, Vary, seed_of
from bench.core.settings import Settings
from bench.data import tasks
from bench.data.tasks import Regime, Task
from bench.matrix.landscape_settings import Landscape
from bench.matrix.protocols import PROTOCOLS, facts
from bench.matrix.zero_config import Zero
from bench.methods import METHODS, Method
from bench.models.backbones import Backbone
from bench.models.heads import HEADS, AnswerWords, HeadSettings
from bench.records.record import Failure, Labels, Predicted, Record, Status
from bench.records.store import now
from bench.regularizers import Regularizer, class_of


class SearchRole(Settings):
    """What a cell has to do with a choice of hyper-parameters on dev; see bench.matrix.hyperparameter_search."""

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
    # steps between evaluations on dev; None: ten in all
    evaluate_every: Annotated[int, Field(ge=1)] | Literal["epoch"] | None = None
    patience: int | None = Field(default=None, ge=1)  # evaluations without a gain on dev that end training; None: none
    max_length: int = Field(default=128, ge=8)  # tokens of an example, template included
    lower_dropout: bool = False  # dropout in the frozen layers below the method, as in LPT's code
    checkpointing: bool = False  # recompute layers in the backward: non-reentrant
    kernels: Literal["auto", "reference", "compiled", "triton"] = "auto"  # the form of what perturbs
    landscape: Landscape | None = None  # loss surfaces around the trained weights; None: not measured
    protocol: str | None = (
        None  # the recipe of a paper that fills in what a matrix leaves open; see bench.matrix.protocols
    )
    tuning: SearchRole | None = None  # set where a matrix has hyper-parameters to choose from

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
        """With epochs as steps: of so many training examples, each has one for every batch, the last a short one.

        The batches are all full here: what an epoch leaves over begins the next one's.
        """
        epoch = math.ceil(examples / self.batch_size)
        steps = self.steps if self.epochs is None else self.epochs * epoch
        every = epoch if self.evaluate_every == "epoch" else self.evaluate_every
        return changed(self, steps=steps, epochs=None, evaluate_every=every or max(1, steps // 10))

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
            task=tasks.label(self.task),
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
        content = self.content()
        known = facts(self.backbone, self.task, content["method"], content["regularizer"])
        return PROTOCOLS[self.protocol].departures(known, content)

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


FIELDS = tuple(sorted(Cell.model_fields))
LONGEST = 220  # characters before the hash: file systems take 255 bytes, also of what is called after a record
READABLE = ("backbone", "task", "regime", "method", "regularizer", "zero")


def identity_json(value: object) -> str:
    """One field of a cell as canonical JSON, as it goes into the hash."""
    if isinstance(value, Backbone):
        value = value.identity
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def slug(value: object) -> str:
    """One field of a cell as it goes into the readable part of the name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", label_of(value)).strip("-")[:48] or "unnamed"


def label_of(value: object) -> str:
    """One field of a cell as tables show it."""
    return tasks.label(value) if isinstance(value, Task) else str(getattr(value, "label", value))


def compose_name(slugs: Mapping[str, str], jsons: Mapping[str, str]) -> str:
    """`backbone.task.regime.method.regularizer.zero.x<ranks>.s<seed>-<hash of all fields>`."""
    content = ",".join([f'"{name}":{jsons[name]}' for name in FIELDS])
    readable = ".".join([slugs[name] for name in READABLE])
    whole = f"{readable}.x{slugs['ranks']}.s{slugs['seed']}"
    return f"{whole[:LONGEST]}-{digest(content)}"


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
        "tuning": SearchRole,
    }
    made: dict[str, Any] = {
        name: parts[name].model_validate(value) if name in parts and value is not None else value
        for name, value in content.items()
    }
    made["vary"] = tuple(made["vary"])  # JSON has lists
    return Cell.model_construct(**made)
