"""What must be in order before processes start: the environment, the weights, the data, the answer words."""

from __future__ import annotations

from bench.core.settings import InputError, Problem
from bench.data import verbalizers
from bench.data.card_builder import card
from bench.data.splits import split
from bench.matrix.cell import Cell, identity_json
from bench.models.checkpoints import has_safetensors
from bench.records.sample_cards import Card


def check(cells: list[Cell]) -> list[Card]:
    """Whether the cells can run; the cards of the examples they see. InputError names the first fault."""
    check_environment(cells)
    check_weights(cells)
    check_answer_words(cells)
    return check_data(cells)


def check_environment(cells: list[Cell]) -> None:
    """InputError names the variables that ZeRO configurations need and that are not set."""
    needed = {(name, cell.zero.label) for cell in cells for name in cell.zero.unset}
    if needed:
        message = "is not set: {} expects the path of a folder in it"
        raise InputError("environment", [Problem(name, message.format(zero)) for name, zero in sorted(needed)])


def check_weights(cells: list[Cell]) -> None:
    """InputError names the checkpoints on the hub that have pickles alone, where no reason is given to read them."""
    asked = {cell.backbone.name: cell.backbone for cell in cells if not cell.cost_only and cell.backbone.pickle is None}
    bare = [one for one in asked.values() if one.source == "hub" and has_safetensors(one.location) is False]
    message = (
        "found no safetensors in {0.location}, expected backbone: {{name: {0.name}, pickle: why it can be trusted}}"
    )
    if bare:
        raise InputError("backbones", [Problem(one.name, message.format(one)) for one in bare])


def check_data(cells: list[Cell]) -> list[Card]:
    """Reads what every cell would read, task by task; which examples that is. InputError names the first fault."""
    made: list[Card] = []
    by_task: dict[str, dict[tuple[str, int], Cell]] = {}
    for cell in (cell for cell in cells if not cell.cost_only):
        sample = identity_json(cell.regime), cell.seed_of("sample")
        by_task.setdefault(identity_json(cell.task), {}).setdefault(sample, cell)
    for samples in by_task.values():
        for cell in samples.values():
            seed = cell.seed_of("sample")
            made.append(card(cell.task, cell.regime, seed, split(cell.task, cell.regime, seed)))
    return made


def check_answer_words(cells: list[Cell]) -> None:
    """Whether they are tokens, where the tokenizer is at hand; else that is seen when a cell starts.

    InputError names those of all cells that are none.
    """
    asked = {
        (identity_json(cell.backbone), identity_json(cell.task)): cell
        for cell in cells
        if cell.head.kind == "answer_words" and not cell.cost_only
    }
    problems: dict[str, InputError] = {}
    for cell in asked.values():
        try:
            verbalizers.check(cell.task, cell.backbone)
        except InputError as error:
            problems[str(error)] = error
    if problems:
        faults = [
            Problem(f"{error.file}: {one.path}", one.message) for error in problems.values() for one in error.problems
        ]
        raise InputError("answer words", faults)
