"""What claims are about: a number of each record, the scale of its effects, and which failures speak against a side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.board.claims.claim import QuantityName
from bench.board.sections.memory import neediest
from bench.board.writers.tables import UNKNOWN, decimals
from bench.records.record import Record

Place = tuple[object, ...]  # what must be the same for values to be compared


@dataclass(frozen=True)
class Quantity:
    told: str
    value: Callable[[Record], float | None]  # None: not known
    ratio: bool  # effects are the first side's through the second's, else their difference in points
    place: Callable[[Record], Place | None]  # only records of the same are compared; None: it is not known
    costs: bool = False  # changed by ZeRO configuration, ranks, cache and whatever else changes costs alone
    against: frozenset[str] = frozenset()  # how a cell ends that cannot do what is claimed of its side

    @property
    def even(self) -> float:
        """The effect of two sides that are the same."""
        return 1.0 if self.ratio else 0.0

    def effect(self, value: float | None) -> str:
        if value is None:
            return UNKNOWN
        return f"{self.shown(value)} ×" if self.ratio else f"{self.shown(value)} points"

    def shown(self, value: float) -> str:
        if not self.ratio:
            return f"{value:+.2f}"
        return f"{value:,.{2 if value >= 0.1 else decimals(value)}f}"


def _data(record: Record) -> Place | None:
    """Scores on other data are no pairs."""
    return (f"data {record.quality.data}",) if record.quality else None


def _machine(record: Record) -> Place | None:
    found = record.environment
    return (*found.hosts, found.accelerator, f"threads {found.threads}") if found else None


def _accelerator(record: Record) -> Place | None:
    return (record.environment.accelerator,) if record.environment else None


def _test(record: Record) -> float | None:
    return 100 * record.quality.test if record.quality else None


def _rise(record: Record) -> float | None:
    """None where it is 0, too: an exactly flat surface has no ratio to another."""
    return (record.landscape.embeddings.rise or None) if record.landscape else None


def _tokens_per_second(record: Record) -> float | None:
    """None where it is 0, too, which has no ratio."""
    return (record.cost.tokens_per_second or None) if record.cost else None


def _peak(record: Record) -> float | None:
    """None where it is 0, too, which has no ratio."""
    most = neediest([record], "train")
    return (most.peak_allocated_bytes or None) if most else None


DIVERGED = frozenset({"diverged"})
QUANTITIES: dict[QuantityName, Quantity] = {
    "test": Quantity("test score", _test, False, _data, against=DIVERGED),
    "spread": Quantity("standard deviation of the test score over seeds", _test, True, _data, against=DIVERGED),
    "sharpness": Quantity("sharpness around the inputs", _rise, True, _data, against=DIVERGED),
    "tokens_per_second": Quantity("tokens/s in training", _tokens_per_second, True, _machine, costs=True),
    "peak_bytes": Quantity(
        "train peak of the rank that needs most",
        *(_peak, True, _accelerator),
        costs=True,
        against=frozenset({"out_of_memory", "predicted_out_of_memory"}),
    ),
}
