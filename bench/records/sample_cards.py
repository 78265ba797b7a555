"""Few-shot cards: which examples a sample holds, by their places in the task's train split, beside the records."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from bench.core import files
from bench.core.settings import Settings

LIMIT = 2**27  # bytes of a card: its places are those of a training set


class Card(Settings):
    """The list behind `sample` of a record's quality."""

    sample: str
    task: str
    regime: str
    seed: int
    origin: str  # where the examples come from
    data: str  # hash of all that the task has
    # places in the train split, from 0, in class order; train None: all that are not in dev
    train: tuple[int, ...] | None
    dev: tuple[int, ...] | None  # None: the task's own dev split
    classes: dict[str, tuple[int, int, int]]  # by label: how many in train, dev and test


def write(results: Path, made: Card) -> None:
    """results/cards/<sample>.json, unless it is there."""
    file = results / "cards" / f"{made.sample}.json"
    if not file.exists():
        content = json.dumps(made.model_dump(mode="json"), ensure_ascii=False) + "\n"
        files.write_once(file, content, results / ".run")


def read_all(results: Path) -> tuple[list[Card], list[str]]:
    """Every card below `results` by sample, and a line for each file that is none."""
    found: list[Card] = []
    unreadable: list[str] = []
    for file in sorted((results / "cards").glob("*.json")):
        try:
            one = Card.model_validate_json(files.read(file, LIMIT))
            if one.sample != file.stem:
                raise ValueError(f"its sample is {one.sample}")
            found.append(one)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            unreadable.append(": ".join(part for part in (str(file), place, first["msg"]) if part))
        except (ValueError, OSError) as error:
            unreadable.append(f"{file}: {error}")
    return found, unreadable
