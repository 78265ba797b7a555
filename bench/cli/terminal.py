"""What the commands of `bench` share: reading records, tables on a terminal, sizes, and errors for the user."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from bench.records.record import Record
    from bench.records.sample_cards import Card

BAD_INPUT = 2  # exit status


def read(results: Path, bare: bool = False) -> list[Record]:
    """The records of a folder of results or, with `bare`, of records themselves; what is none is named."""
    from bench.records.store import folder, read_folder

    place = folder(results)
    if bare and not place.is_dir() and any(results.glob("*.json")):
        place = results
    if not place.is_dir():
        fail(f"{place}: no such folder, expected records")
    reading = read_folder(place)
    for line in reading.unreadable:
        print(f"left out: {line}", file=sys.stderr)
    return reading.records


def read_cards(results: Path) -> list[Card]:
    """The cards in a folder, if there are any; what is none is named."""
    from bench.records import sample_cards

    found, unreadable = sample_cards.read_all(results)
    for line in unreadable:
        print(f"left out: {line}", file=sys.stderr)
    return found


def say(console: Console, line: str) -> None:
    """One line as it is: nothing in it is markup, nothing is coloured, and it is not broken where a terminal ends."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    console: Console | None = None,
    right: Collection[str] = (),
    red: Collection[str] = (),
) -> None:
    """A table; where no person looks on, one line each, however long.

    `right`: the columns that are flush right. `red`: cells that stand out on a terminal.
    """
    console = console or Console()
    table = Table(box=None, pad_edge=False)
    for name in head:
        table.add_column(name, justify="right" if name in right else "left")
    for row in rows:
        cells = (str(cell) for cell in row)
        table.add_row(*(Text(cell, style="red" if cell in red else "") for cell in cells))
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(width=10_000)
    wide.width = wide.measure(table).maximum
    with wide.capture() as printed:
        wide.print(table)
    for line in printed.get().splitlines():
        say(console, line.rstrip())


def budget_of(gpu_memory: str | None, reserve: str, remote: bool = False) -> int:
    """Bytes that a cell may have on a device; the memory of this machine's first GPU where none is given."""
    if gpu_memory is not None:
        memory = size(gpu_memory, "--gpu-memory")
    else:
        import torch

        if remote or not torch.cuda.is_available():
            fail("command line: --gpu-memory: expected a size as 80GiB, since there is no GPU here to ask")
        memory = torch.cuda.get_device_properties(0).total_memory
    if memory <= (kept := size(reserve, "--reserve")):
        fail(f"command line: --reserve: found {reserve}, expected less than the {memory} bytes of a GPU")
    return memory - kept


def size(text: str, option: str) -> int:
    """Bytes of `80GiB`, `80GB`, `512MiB`, ...; what is none ends the command."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        fail(f"command line: {option}: found {text!r}, expected a size as 80GiB")


def fail(message: str) -> NoReturn:
    """One or two lines for the user, exit 2."""
    print(f"bench: {message}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)
