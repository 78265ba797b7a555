"""What boards rely on in a record: figures within bounds, and some fields of its cell, which is else plain data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError


def _writable(value: Any) -> Any:
    """Names of files, and what processes print, need not be UTF-8."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_writable)]
# figures that can be added up and shown
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=0, lt=2**63)]
Difference = Annotated[int, Field(gt=-(2**63), lt=2**63)]  # of two sizes
Amount = Annotated[float, Field(ge=0, lt=1e100)]
Figure = Annotated[float, Field(gt=-1e100, lt=1e100)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Positive = Annotated[int, Field(strict=True, ge=1, lt=2**63)]


class _Loose(BaseModel):
    """What is not named may be anything."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Kind(_Loose):
    kind: str
    recipe: dict[str, Any] | None = None


class _Landscape(_Loose):
    radius: float | None = None
    weights: StrictBool | None = None


class _Tuning(_Loose):
    role: Literal["tune", "report"]
    setting: str
    candidate: str
    seeds: tuple[Count, ...]


class _Cell(_Loose):
    method: str | _Kind | None = None
    regularizer: str | _Kind | None = None
    regime: str | dict[str, Any] | None = None
    seed: Count | None = None
    ranks: Positive | None = None
    steps: Positive | None = None
    epochs: Positive | None = None
    batch_size: Positive | None = None
    micro_batch_size: Positive | None = None
    max_length: Count | None = None
    patience: Positive | None = None
    vary: tuple[str, ...] | None = None
    precision: str | None = None
    attention: str | None = "sdpa"
    select: str | None = None
    weights: str | None = None
    protocol: str | None = None
    landscape: _Landscape | None = None
    tuning: _Tuning | None = None


def checked(cell: dict[str, Any]) -> dict[str, Any]:
    """`cell` as it is. ValueError names the first of its fields that no version of ours has written."""
    try:
        _Cell.model_validate(cell)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return cell
