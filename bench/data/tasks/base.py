"""What a task is: fields, templates, answer words, metrics, and where its data is. Plain data, which a cell holds."""

from __future__ import annotations

import re
import string
from typing import Literal

from pydantic import field_validator, model_validator

from bench.core.settings import Settings, shown
from bench.data.metrics import DIGITS, METRICS
from bench.models import toy

Label = int | str | bool


class Hub(Settings):
    """Where a task is on the Hugging Face hub. Class labels are read as names, or as integers if the task's are."""

    path: str  # owner/name
    config: str | None = None
    revision: str | None = None  # a commit; None: what `main` is when it is read, which the record then names
    splits: dict[str, tuple[str, ...]] = {}  # as in Task, where their names differ from those of the files
    fields: dict[str, str] = {}  # ours, label included -> theirs, where they differ
    labels: tuple[Label, ...] = ()  # theirs, in our class order, where they differ

    @field_validator("revision")
    @classmethod
    def _is_a_name(cls, revision: str | None) -> str | None:
        """It becomes part of a file's name in the cache of the hub's client."""
        if revision is None or (re.fullmatch(r"\w[\w./-]{0,199}", revision, re.ASCII) and ".." not in revision):
            return revision
        raise ValueError("a commit, branch or tag")


def glue(config: str, fields: dict[str, str] | None = None) -> Hub:
    commit = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
    return Hub(path="nyu-mll/glue", config=config, revision=commit, fields=fields or {})


def super_glue(config: str) -> Hub:
    return Hub(path="aps/super_glue", config=config, revision="3de24cf8022e94f4ee4b9d55a6f539891524d646")


class Task(Settings):
    """One row of data gives one example, or what `form` makes of it.

    A template holds its fields in braces. The masked one has {mask} where the answer goes; the causal and the
    encoder-decoder's end where it begins. A linear head reads `plain`, without answer words.
    """

    name: str
    source: Literal["auto", "folder", "hub", "built-in", "random"] = "auto"  # auto: the folder where it is, or the hub
    folder: str = ""  # below BENCH_DATA, with a file for each name in `splits`
    fewglue: str = ""  # the folder of its FewGLUE examples: train, dev32, validation
    hub: Hub | None = None
    # train, test and, where one is given, dev -> their files; scores are means over several, each on its own
    splits: dict[str, tuple[str, ...]] = {"train": ("train",), "test": ("test",)}
    form: str = ""  # `module:function`, from a row as it is read to a list of rows with the fields and a label
    fields: tuple[str, ...]  # each a text of a row
    fixed: tuple[str, ...] = ()  # of the fields those that perturbations leave alone, as they do the template
    labels: tuple[Label, ...]  # the values of the field label, in class order
    words: tuple[str, ...]  # the answer word of each class
    masked: str
    causal: str
    encoder_decoder: str = ""  # "": `field: text` of each field, T5's form without the task's name
    plain: tuple[str, ...] = ()  # one sequence, or two; (): each field is one
    metrics: tuple[str, ...] = ("accuracy",)  # the score is their mean

    @property
    def metric(self) -> str:
        return " and ".join(self.metrics)

    def template(self, form: str) -> str:
        """Of backbones of this form: masked, causal or encoder_decoder."""
        if form == "encoder_decoder":
            return self.encoder_decoder or " ".join(f"{name}: {{{name}}}" for name in self.fields)
        return self.masked if form == "masked" else self.causal

    @property
    def sequences(self) -> tuple[str, ...]:
        """The templates of what a linear head reads."""
        return self.plain or tuple(f"{{{name}}}" for name in self.fields)

    @model_validator(mode="after")
    def _check(self) -> Task:
        if self.source == "random":
            return self
        if not re.fullmatch(r"[A-Za-z0-9][\w-]{0,47}", self.name, re.ASCII):
            raise ValueError(f"name: found {shown(self.name)}, expected letters, digits, - and _ only, at most 48")
        if self.source == "built-in" and self.folder not in map(str, range(toy.ATTRIBUTES)):
            raise ValueError("source: found built-in, which only the tasks of the built-in world have")
        if strangers := set(self.fixed) - set(self.fields):
            raise ValueError(f"fixed: found {', '.join(sorted(strangers))}, expected some of {list(self.fields)}")
        known = {"fields": self.fields, "labels": self.labels, "words": self.words}
        for name, values in known.items():
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: found {list(values)}, expected values that all differ")
        if len(self.words) != len(self.labels) or len(self.labels) < 2:
            raise ValueError(
                f"words: found {list(self.words)}, expected one for each of the labels {list(self.labels)}"
            )
        if len(self.labels) > len(DIGITS):
            raise ValueError(f"labels: found {len(self.labels)}, expected {len(DIGITS)} at most")
        if missing := {"train", "test"} - self.splits.keys():
            raise ValueError(f"splits: found {', '.join(self.splits)}, expected also {' and '.join(sorted(missing))}")
        if extra := self.splits.keys() - {"train", "dev", "test"}:
            raise ValueError(f"splits: found {', '.join(sorted(extra))}, expected train, test and perhaps dev")
        self._check_splits(self.splits, "splits")
        if not self.metrics or any(name not in METRICS for name in self.metrics):
            raise ValueError(f"metrics: found {list(self.metrics)}, expected some of {', '.join(METRICS)}")
        if "f1" in self.metrics and len(self.labels) > 2:
            raise ValueError(f"metrics: found f1 with {len(self.labels)} labels, expected macro_f1, or two labels")
        self._check_hub()
        if len(self.sequences) > 2:
            raise ValueError(f"plain: found {len(self.sequences)} sequences, expected one or two")
        self._check_templates()
        return self

    def _check_splits(self, splits: dict[str, tuple[str, ...]], place: str) -> None:
        """A file in two splits would have examples of one in the other."""
        names = [name for several in splits.values() for name in several]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{place}: found {twice[0]} twice, expected each file in one place only")
        if empty := [split for split, several in splits.items() if not several]:
            raise ValueError(f"{place}: found nothing for {empty[0]}, expected the names of its files")

    def _check_hub(self) -> None:
        if self.hub is not None:
            self._check_splits(self.hub.splits, "hub.splits")
        if self.hub is None:
            if self.source == "hub":
                raise ValueError("source: found hub, expected also what is under `hub`")
            return
        if len(self.hub.labels) not in (0, len(self.labels)):
            found = list(self.hub.labels)
            raise ValueError(f"hub.labels: found {found}, expected theirs for each of the labels {list(self.labels)}")
        for split, names in self.hub.splits.items():
            ours = self.splits.get(split, ())
            if len(names) != len(ours):
                message = f"one name of theirs for each of {', '.join(ours)}" if ours else f"one of {list(self.splits)}"
                raise ValueError(f"hub.splits: found {split}: {', '.join(names)}, expected {message}")

    def _check_templates(self) -> None:
        templates = {form: self.template(form) for form in ("masked", "causal", "encoder_decoder")}
        templates |= {f"plain[{i}]": sequence for i, sequence in enumerate(self.sequences)}
        for place, template in templates.items():
            try:
                parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
            except ValueError as error:
                raise ValueError(f"{place}: found {template!r}: {error}") from error
            found = [name for _, name, _, _ in parts if name is not None]
            if any(form or conversion for _, _, form, conversion in parts):
                raise ValueError(f"{place}: found {template!r}, expected names alone in braces, without ! and :")
            wanted = {*self.fields, "mask"} if place == "masked" else set(self.fields)
            if unknown := [name for name in found if name not in wanted]:
                names = ", ".join(sorted(wanted))
                raise ValueError(f"{place}: found {{{unknown[0]}}} in {template!r}, expected only {names} in braces")
            if not set(found) & set(self.fields):
                raise ValueError(f"{place}: found {template!r}, expected at least one field in braces")
            if place == "masked" and found.count("mask") != 1:
                raise ValueError(f"masked: found {template!r}, expected {{mask}} in it once")
