"""YAML and JSON as people write them: what cannot be meant is told before it is read, also how much there is of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from bench.core import files
from bench.core.settings import InputError, Problem, shown

LIMIT = 2**20  # bytes of a file that a person writes
MOST_NODES = 100_000  # values of a YAML file, each alias counted as what it stands for
DEEPEST = 50  # collections in collections
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: escapes can write it, no file can hold it
# what reading a file may raise besides what its parser promises: constructors of YAML tags raise all of these
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def read_yaml(file: Path, keys: Iterable[str]) -> dict[Any, Any]:
    """The mapping that a YAML file holds. InputError says what it is instead; `keys` are those it should have."""
    try:
        content = files.read_text(file, LIMIT)
        check_size(content)
        data = yaml.load(content, _Loader)
    except (yaml.YAMLError, *UNREADABLE) as error:
        raise InputError(str(file), [Problem("YAML", " ".join(str(error).split()))]) from error
    if not isinstance(data, dict):
        expected = f"expected a mapping with {', '.join(keys)}"
        raise InputError(str(file), [Problem("YAML", f"found {shown(data)}, {expected}")])
    return data


def check_size(content: str) -> None:
    """ValueError where YAML is nested too deeply, or its aliases stand for too much: each may stand for many others."""
    sizes: dict[str, int] = {}  # by anchor: the values that an alias of it stands for
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and how many values there were before
    count = 0
    for event in yaml.parse(content, _Parser):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_nodes):
                raise ValueError(f"line {event.start_mark.line + 1}: *{event.anchor} is inside of what it stands for")
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            sizes |= {event.anchor: 1} if event.anchor else {}
            if LONE_SURROGATE.search(event.value):
                raise ValueError(f"line {event.start_mark.line + 1}: found half a character, expected a text")
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes |= {anchor: count - before} if anchor else {}
        if len(open_nodes) > DEEPEST:
            raise ValueError(f"line {event.start_mark.line + 1}: found more than {DEEPEST} levels, expected fewer")
        if count > MOST_NODES:
            raise ValueError(f"line {event.start_mark.line + 1}: found more than {MOST_NODES:,} values, expected fewer")


_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where there is one


class _Loader(_Parser):
    """Safe YAML in which a key given twice is an error, not the last one's victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_plain_int(self, node: yaml.ScalarNode) -> int:
        """A whole number of 64 bits, in no form that YAML 1.1 reads as another number than a person does."""
        made = self.construct_yaml_int(node)
        if re.fullmatch(r"[-+]?0[0-7_]+|.*:.*", node.value) or abs(made) >= 2**63:
            reading = "base 8 or 60" if abs(made) < 2**63 else "more than 64 bits"
            message = f"found {shown(node.value)}, which is {reading}: expected a plain number, or quotes around a text"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return made


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_plain_int)


def read_json(file: Path, limit: int = LIMIT) -> Any:
    """What a JSON file holds. OSError or ValueError says what is wrong: keys given twice and NaN, too."""
    try:
        return json.loads(
            files.read_text(file, limit), parse_constant=_finite, parse_float=_finite, object_pairs_hook=_once
        )
    except RecursionError as error:
        raise ValueError("found too many levels, expected fewer") from error


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"found {text}, expected a finite number")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. ValueError where a key is given twice, or holds half a character."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    for text in (*made, *made.values()):
        if isinstance(text, str) and LONE_SURROGATE.search(text):
            raise ValueError(f"found {text!r}, which has half a character in it, expected a text")
    return made
