"""Claims as `results/claims.yaml` has them: what is said where, and the test of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from bench.core import files
from bench.core.settings import InputError, Problem, Settings, parse, shown, unknown
from bench.core.strict_files import read_yaml

METHODS = (  # boards do not import methods; a test compares
    *("adapter", "bitfit", "compacter", "deep_prompts", "full", "idpg", "late_prompt", "linear_probe", "p_tuning"),
    *("peft", "prefix_tuning", "prompt_tuning"),
)
QuantityName = Literal["test", "spread", "sharpness", "tokens_per_second", "peak_bytes"]
Text = Annotated[str, Field(min_length=1)]
T = TypeVar("T")


def _several(value: Any) -> Any:
    """One value stands for a list of it."""
    return value if value is None or isinstance(value, list | tuple) else (value,)


OneOf = Annotated[tuple[T, ...] | None, BeforeValidator(_several)]  # None: whichever


class OfMethod(Settings):
    kind: OneOf[Text] = None
    generator: OneOf[Literal["none", "naive", "max_pooling", "average_pooling"]] = None
    depth_from: int | None = None  # the lowest layer that a prompt may enter

    @model_validator(mode="after")
    def _has_names(self) -> OfMethod:
        for kind in self.kind or ():
            if kind not in METHODS:
                raise ValueError(f"kind: {unknown(kind, METHODS)}")
        return self

    def holds(self, method: Mapping[str, Any]) -> bool:
        depth = method.get("depth")
        deep = self.depth_from is None or (isinstance(depth, int) and depth >= self.depth_from)
        return _among(method, "kind", self.kind) and _among(method, "generator", self.generator) and deep


class OfRegularizer(Settings):
    kind: OneOf[Literal["none", "noise", "attack"]] = None
    space: OneOf[Literal["embeddings", "text"]] = None

    def holds(self, regularizer: Mapping[str, Any]) -> bool:
        return _among(regularizer, "kind", self.kind) and _among(regularizer, "space", self.space)


class Selector(Settings):
    """Which cells; what is not given may be anything."""

    method: OfMethod = OfMethod()
    regularizer: OfRegularizer = OfRegularizer()
    regime: Literal["full", "few_shot"] | None = None  # few_shot: any but full
    feature_cache: bool | None = None

    def holds(self, cell: Mapping[str, Any]) -> bool:
        return (
            self.feature_cache in (None, bool(cell.get("feature_cache")))
            and self.method.holds(fields_of(cell.get("method")))
            and self.regularizer.holds(fields_of(cell.get("regularizer")))
            and self.regime in (None, _regime(cell.get("regime")))
        )

    def told(self) -> str:
        """In words: `method: kind late_prompt`; nothing where anything is right."""
        return "; ".join(
            f"{field.replace('_', ' ')}: {_told(value)}"
            for field, value in self.model_dump(exclude_defaults=True, mode="json").items()
        )


class Part(Settings):
    """Some of a claim's cells, tested on their own beside the whole."""

    first: Selector = Selector()
    second: Selector = Selector()


class Claim(Settings):
    key: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    claim: Text
    source: Text  # arXiv id, and where in it
    says: Text | None  # in the source's own words; None: it says nothing of the kind
    note: Text | None = None
    quantity: QuantityName
    direction: Literal["higher", "lower"]  # of the first side's
    margin: Annotated[float, Field(gt=0)] | None = None  # so much the other way is still no contradiction
    because: Text | None = None  # of the margin
    differs: Literal["method", "regularizer"]  # between the sides; the other is the same
    where: Selector = Selector()  # of both sides
    first: Selector
    second: Selector
    parts: dict[str, Part] = {}
    seeds: Annotated[int, Field(ge=2)] = 3  # that a setting has at least, to count
    tasks: Annotated[int, Field(ge=1)] = 2  # that decide at least

    @model_validator(mode="after")
    def _has_reasons(self) -> Claim:
        if self.margin is not None and self.quantity != "test":
            raise ValueError(f"margin: found {self.margin:g}, expected none of a ratio: it is in points of a score")
        if (self.margin is None) != (self.because is None):
            raise ValueError(f"because: found {shown(self.because)}, expected the reason of a margin, beside it")
        return self


class Claims(Settings):
    claims: tuple[Claim, ...]


def load(path: Path | None = None) -> list[Claim]:
    """The claims of a file, else those shipped. InputError names everything that is wrong in it."""
    file = path or files.shipped("claims.yaml")
    problems: list[Problem] = []
    found = parse(Claims, read_yaml(file, Claims.model_fields), "", problems)
    claims = found.claims if found else ()
    keys = Counter(claim.key for claim in claims)
    for i, claim in enumerate(claims):
        if keys[claim.key] > 1:
            problems.append(Problem(f"claims[{i}].key", f"found {claim.key!r} twice, expected a name of its own"))
    if problems:
        raise InputError(str(file), problems)
    return list(claims)


def fields_of(value: Any) -> Mapping[str, Any]:
    """Of a method or a regularizer, as a cell has it."""
    return value if isinstance(value, Mapping) else {"kind": value}


def _among(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...] | None) -> bool:
    return allowed is None or fields.get(name) in allowed


def _regime(regime: Any) -> str:
    """`full`, or `few_shot` for a sample of the training set."""
    if isinstance(regime, Mapping):
        return "few_shot" if any(regime.values()) else "full"
    return "full" if regime == "full" else "few_shot"


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{field.replace('_', ' ')} {_told(one)}" for field, one in value.items())
    if isinstance(value, list):
        return " or ".join(map(str, value))
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
