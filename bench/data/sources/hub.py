"""Rows of a dataset on the Hugging Face hub, in our fields and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from bench.core.settings import InputError, Problem, shown, unknown
from bench.data.sources.base import Part, Row, Source, Splits
from bench.data.sources.repository import Address, build
from bench.data.tasks import Hub, Task

if TYPE_CHECKING:
    import datasets


def read(task: Task, splits: Splits, hub: Hub, instead: str) -> Source:
    """The rows of `splits`. `instead`: the files a user without a network may put into a folder.

    InputError says in one line what is not there or not in reach, or names the row.
    """
    address = Address(task, hub, instead)
    builder, commit = build(address)
    parts: dict[str, list[Part]] = {}
    for split, names in splits.items():
        theirs = hub.splits.get(split, names)
        parts[split] = [_part(address, builder, *pair) for pair in zip(names, theirs, strict=True)]
    return Source(parts, f"hub {address.name} @{commit}")


def _part(address: Address, builder: datasets.DatasetBuilder, name: str, theirs: str) -> Part:
    """`name`: ours, `theirs`: of the split on the hub."""
    import datasets

    if theirs not in (names := list(builder.info.splits or ())):
        raise address.error("hub.splits", f"{address.name}: {unknown(theirs, names)}")
    found = cast("datasets.Dataset", builder.as_dataset(theirs))
    fields = address.hub.fields
    for ours, column in fields.items():
        if column not in found.column_names:
            raise address.error(f"hub.fields.{ours}", f"{address.name} {theirs}: {unknown(column, found.column_names)}")
    where, feature = f"hub {address.name} {theirs}", found.features.get(fields.get("label", "label"))
    classes = list(feature.names) if isinstance(feature, datasets.ClassLabel) else []
    rows: list[Row] = []
    for number, read in enumerate(found.to_list(), 1):
        row = read | {ours: read[column] for ours, column in fields.items()}
        try:
            if "label" in row:
                row["label"] = _label(row["label"], classes, address)
        except ValueError as error:
            raise InputError(where, [Problem(f"row {number}", f"field label: {error}")]) from error
        rows.append((f"row {number}", row))
    if not rows:
        raise InputError(where, [Problem("split", "found no row")])
    return Part(name, where, rows)


def _label(value: Any, classes: list[str], address: Address) -> Any:
    """The task's label for `value` of theirs, a number of one of `classes` if there are such. ValueError: unknown."""
    labels, theirs = address.task.labels, address.hub.labels
    name = classes[value] if value in range(len(classes)) else value
    if theirs:
        expected, found = theirs, [label for label, their in zip(labels, theirs, strict=True) if their in (name, value)]
    elif classes and not all(type(label) is int for label in labels):
        expected, found = labels, [label for label in labels if str(label) == name]
    else:
        return value
    if not found:
        raise ValueError(f"found {shown(name)}, expected one of {list(expected)}")
    return found[0]
