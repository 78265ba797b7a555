"""Hyper-parameters are chosen on dev: the mean over tuning seeds decides, then other seeds are reported.

A list in a recipe or a regularizer is what there is to choose from. It is chosen for each backbone, task, regime,
method and whatever else may change the result; not for each ZeRO configuration or number of ranks, which may not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.matrix.axes import Choices, make
from bench.matrix.cell import Cell, SearchRole, digest
from bench.records.model_selection import best

# what changes costs alone: a tuning cell has the first of their values
NEUTRAL = ("zero", "ranks", "micro_batch_size", "attention", "compile", "feature_cache", "checkpointing", "kernels")


@dataclass
class Candidate:
    """One set of values, as cells by name."""

    tune: dict[str, Cell] = field(default_factory=dict[str, Cell])
    report: dict[str, Cell] = field(default_factory=dict[str, Cell])


@dataclass
class Decision:
    """What is to be chosen for one setting."""

    title: str
    candidates: dict[str, Candidate] = field(default_factory=dict[str, Candidate])

    def chosen(self, dev: Mapping[str, float | None]) -> str | None:
        """The candidate with the best mean on dev, the first by name of equals; None where none has all of it.

        `dev`: by the name of a tuning cell; None: it failed. KeyError names one that was not run.
        """
        return best({label: [dev[name] for name in one.tune] for label, one in self.candidates.items()})


@dataclass
class Expansion:
    """The cells of a matrix: those that are fixed, and those that wait for a decision."""

    fixed: dict[str, Cell] = field(default_factory=dict[str, Cell])
    decisions: dict[str, Decision] = field(default_factory=dict[str, Decision])

    def runnable_now(self) -> list[Cell]:
        """What can run before anything is decided."""
        tune = [cell for one in self.decisions.values() for c in one.candidates.values() for cell in c.tune.values()]
        return list({cell.name: cell for cell in [*self.fixed.values(), *tune]}.values())

    def selected(self, dev: Mapping[str, float | None]) -> tuple[list[Cell], list[str]]:
        """The cells that report what was chosen, and the titles of what could not be."""
        cells: list[Cell] = []
        without: list[str] = []
        for decision in self.decisions.values():
            label = decision.chosen(dev)
            if label is None:
                without.append(decision.title)
            else:
                cells += decision.candidates[label].report.values()
        return cells, without

    def all_cells(self) -> list[Cell]:
        """One of all that may run: the cells that report are those of the first candidates."""
        report = [
            cell for one in self.decisions.values() for cell in next(iter(one.candidates.values())).report.values()
        ]
        return [*self.runnable_now(), *report]


class Expander:
    """Sorts combinations into an Expansion."""

    def __init__(self, seeds: tuple[int, ...], check: Callable[[Choices, Cell], None]):
        self.seeds, self.check, self.made = seeds, check, Expansion()
        self._neutral: dict[str, Choices] = {}  # by setting: of the first cell

    def add(self, choices: Choices) -> None:
        label = " ".join(filter(None, (choices[name].given.candidate for name in ("method", "regularizer"))))
        if not label:
            cell = make(choices)
            self.check(choices, cell)
            self.made.fixed.setdefault(cell.name, cell)
            return
        key = _setting(choices, self.seeds)
        first = self._neutral.setdefault(key, {name: choices[name] for name in NEUTRAL})
        decision = self.made.decisions.setdefault(key, Decision(_title(choices)))
        if label not in decision.candidates:
            tuned = SearchRole(role="tune", setting=key, candidate=label, seeds=self.seeds)
            cells = (make({**choices, **first}, tuning=tuned, seed=seed, landscape=None) for seed in self.seeds)
            decision.candidates[label] = Candidate({cell.name: cell for cell in cells})
        report = make(choices, tuning=SearchRole(role="report", setting=key, candidate=label, seeds=self.seeds))
        self.check(choices, report)
        decision.candidates[label].report.setdefault(report.name, report)


def _setting(choices: Choices, seeds: tuple[int, ...]) -> str:
    """The same for what is chosen together: without seed and costs, and with the lists for the values from them."""
    parts = [
        f"{name}={choice.given.lists or choice.json}"
        for name, choice in sorted(choices.items())
        if name not in ("seed", "tuning", "landscape", *NEUTRAL)
    ]
    return digest(f"{','.join(parts)} {seeds}")


def _title(choices: Choices) -> str:
    return ", ".join(choices[name].slug for name in ("backbone", "task", "regime", "method", "regularizer"))
