"""What files hold: frozen settings, and errors that name the place, what was found and what was expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

MOST_SHOWN = 100  # problems of a file
WIDEST = 1500  # characters of a line about one
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # what a terminal obeys, or cannot show


class Settings(BaseModel):
    """Frozen; unknown keys are errors, and so are numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a file: where, what was found, what was expected."""

    path: str  # the place inside the file: axes.method[2].depth
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InputError(ValueError):
    """What a user wrote cannot be used. `str` is one or more lines for the person who can fix it."""

    def __init__(self, file: str, problems: Iterable[Problem]):
        self.file = file
        self.problems = list(problems)
        lines = [f"{file}: {problem}" for problem in self.problems[:MOST_SHOWN]]
        if (more := len(self.problems) - MOST_SHOWN) > 0:
            lines.append(f"{file}: and {more} more like these")
        super().__init__("\n".join(CONTROL.sub(lambda found: repr(found[0])[1:-1], line[:WIDEST]) for line in lines))


class Unsupported(RuntimeError):
    """This machine, or what is installed on it, cannot do what a cell asks for. `str` is one line."""


def nearest(found: object, names: Iterable[str]) -> str:
    """` (did you mean x?)` when a valid name is close to `found`, else the empty string."""
    close = difflib.get_close_matches(str(found), list(names), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def shown(value: object, limit: int = 60) -> str:
    """`value` as it goes into a message: its repr, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def unknown(found: object, names: Iterable[str]) -> str:
    """The message for a name that is none of `names`."""
    names = sorted(names)
    return f"found {shown(found)}, expected one of {', '.join(names)}{nearest(found, names)}"


S = TypeVar("S", bound=Settings)


def parse(kind: type[S], value: object, path: str, problems: list[Problem]) -> S | None:
    """`value` as a `kind`; what is wrong with it is added to `problems` and gives None."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        fields = ", ".join(kind.model_fields)
        problems.append(Problem(path, f"found {shown(value)}, expected a mapping with {fields}"))
        return None
    if flags := list(_flags(kind, value, path)):
        problems.extend(flags)
        return None
    try:
        return kind.model_validate(dict(value))
    except ValidationError as error:
        problems.extend(_explain(kind, path, detail) for detail in error.errors())
        return None


def _flags(kind: type[BaseModel], value: Mapping[Any, Any], path: str) -> Iterator[Problem]:
    """Where `value` has true or false for a number, as which pydantic takes them."""
    for name, info in kind.model_fields.items():
        kinds = _kinds(info.annotation)
        inner = next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)
        several = value.get(name)
        for i, one in enumerate(several) if isinstance(several, list) else [(None, several)]:
            place = f"{path}.{name}".removeprefix(".") + ("" if i is None else f"[{i}]")
            if isinstance(one, bool) and bool not in kinds and {int, float} & kinds:
                yield Problem(place, f"found {one}, expected a number")
            elif inner is not None and isinstance(one, Mapping):
                yield from _flags(inner, one, place)


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation is made of: int and None of `Annotated[int, ...] | None`."""
    if (origin := get_origin(annotation)) is Literal:
        return set()
    parts = get_args(annotation)[: 1 if origin is Annotated else None]
    return {kind for part in parts for kind in _kinds(part)} if parts else {annotation}


def parse_kind(kinds: Mapping[str, type[S]], value: object, path: str, problems: list[Problem]) -> S | None:
    """`value` as the member of `kinds` it names: `full`, or `{kind: late_prompt, depth: 12}`."""
    fields: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"kind": value}
    name = fields.get("kind")
    if not isinstance(name, str) or name not in kinds:
        found = name if "kind" in fields else value
        problems.append(Problem(path, unknown(found, kinds)))
        return None
    return parse(kinds[name], fields, path, problems)


def _explain(kind: type[BaseModel], path: str, detail: Any) -> Problem:
    """One pydantic error as a Problem."""
    place = path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    place = place.removeprefix(".")
    if detail["type"] == "extra_forbidden":
        key = detail["loc"][-1]
        owner = _owner(kind, detail["loc"][:-1])
        return Problem(place, "unknown key: " + unknown(key, owner.model_fields))
    if detail["type"] == "missing":
        return Problem(place, "missing, expected a value")
    message = detail["msg"].removeprefix("Value error, ")
    if named := re.fullmatch(r"([\w\[\].]+): (found .*)", message, re.DOTALL):  # by a validator of the whole
        return Problem(f"{place}.{named[1]}", named[2])
    if detail["type"] == "literal_error":
        message += nearest(detail["input"], re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
    if detail["type"] == "string_type" and isinstance(detail["input"], bool):
        message += " (YAML takes yes, no, on and off for true and false: put quotes around them)"
    return Problem(place, f"found {shown(detail['input'])}, expected: {message[0].lower()}{message[1:]}")


def _owner(kind: type[BaseModel], location: tuple[object, ...]) -> type[BaseModel]:
    """The settings class at `location` inside `kind`, as far as the fields tell."""
    for part in location:
        if isinstance(part, int):
            continue
        field = kind.model_fields.get(str(part))
        inner = _settings_in(field.annotation) if field else None
        if inner is None:
            return kind
        kind = inner
    return kind


def _settings_in(annotation: Any) -> type[BaseModel] | None:
    """The first settings class of an annotation: `Table` of `tuple[Table, ...]`, `Beside` of `Beside | None`."""
    if get_origin(annotation) is None:
        return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return next((found for each in get_args(annotation) if (found := _settings_in(each))), None)


def departures(settings: Settings, hidden: set[str]) -> list[str]:
    """`name=value` of every field that has no default or another value; for labels."""
    fields = {name: info for name, info in type(settings).model_fields.items() if name not in hidden}
    return [
        f"{name}={short(getattr(settings, name))}"
        for name, info in fields.items()
        if info.is_required() or getattr(settings, name) != info.get_default()
    ]


def short(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{k}={short(v)}" for k, v in sorted(value.items()))
    return f"{value:g}" if isinstance(value, float) else str(value)
