"""What each cell of a plan needs, and whether it fits."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.checks.plan.fit import Seen
from bench.checks.plan.probes import elsewhere
from bench.matrix.cell import Cell, changed
from bench.matrix.zero_config import Zero, offload_of
from bench.records.record import Predicted


@dataclass(frozen=True)
class Entry:
    """One cell, dry. All sizes are bytes of the rank that needs most."""

    cell: Cell
    tokens: int  # of the longest example that it trains on
    phases: Mapping[str, Seen] = field(default_factory=dict[str, Seen])  # setup, train, evaluate
    error: str = ""  # why it could not be run dry

    @functools.cached_property
    def predicted(self) -> Predicted | None:
        if not self.phases:
            return None
        ranks, away = self.cell.ranks, elsewhere(self.cell.zero)
        peaks = {name: seen.peak(ranks, self._examples(name), away) for name, seen in self.phases.items()}
        host = self.phases["train"].most_of(away, ranks, self.cell.micro)
        return Predicted(
            tokens=self.tokens,
            device={name: {o: size for o, size in peak.items() if o not in away} for name, peak in peaks.items()},
            host={owner.removeprefix("offloaded "): size for owner, size in host.items()},
        )

    def _examples(self, phase: str) -> int:
        return self.cell.micro if phase == "train" else self.phases[phase].examples

    def fits(self, budget: int) -> bool | None:
        """Within `budget` bytes in every phase; None: not known."""
        return None if self.predicted is None else self.predicted.peak_bytes <= budget

    def largest_micro_batch(self, budget: int) -> int | None:
        """0: none fits."""
        if self.predicted is None:
            return None
        if any(sum(self.predicted.device[phase].values()) > budget for phase in self.phases if phase != "train"):
            return 0
        return self.phases["train"].most_examples(self.cell.ranks, budget, elsewhere(self.cell.zero))

    @functools.cached_property
    def rest(self) -> str:
        """All of the cell but its ZeRO configuration."""
        return changed(self.cell, zero=None).name


def cheapest(entry: Entry, entries: list[Entry], budget: int) -> str | None:
    """The ZeRO configuration with the least traffic that fits, of those the plan has for the same cell."""
    fitting = [one for one in entries if one.rest == entry.rest and one.fits(budget)]
    return min(fitting, key=lambda one: traffic(one.cell.zero)).cell.zero.label if fitting else None


def traffic(zero: Zero) -> tuple[int, int, int]:
    """Sorts configurations by what they move: through the host or NVMe, then between ranks."""
    parameters, optimizer = (
        ["none", "cpu", "nvme"].index(offload_of(zero.config, name)["device"])
        for name in ("offload_param", "offload_optimizer")
    )
    return parameters, optimizer, zero.stage


def errors(entries: list[Entry]) -> list[str]:
    """Why there are cells that could not be run dry, each reason once."""
    failed = [entry for entry in entries if entry.error]
    return sorted({f"{one.cell.method.label}, {one.cell.zero.label}: {one.error}" for one in failed})


def content(entry: Entry, entries: list[Entry], budget: int | None) -> dict[str, Any]:
    """As plain data; what is not known is null."""
    cell, predicted = entry.cell, entry.predicted
    made: dict[str, Any] = {**cell.labels().model_dump(), "ranks": cell.ranks, "micro_batch_size": cell.micro}
    made |= {"tokens": entry.tokens, "error": entry.error or None}
    made |= {"predicted": predicted.model_dump() if predicted else None}
    made |= {"peak_bytes": predicted.peak_bytes if predicted else None}
    if budget is not None:
        made |= {"fits": entry.fits(budget), "largest_micro_batch": entry.largest_micro_batch(budget)}
        made |= {"cheapest_zero": cheapest(entry, entries, budget)}
    return made


HEAD = ("backbone", "method", "regularizer", "zero", "ranks", "micro", "tokens")
SHOWN = {
    "parameters": "params",
    "gradients": "grads",
    "optimizer_state": "optimizer",
    "communication": "comm",
    "feature_cache": "cache",
    "activations": "activ.",
    "other": "other",
}
UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}


def table(entries: list[Entry], budget: int | None) -> tuple[list[str], list[list[str]]]:
    """Sizes at the peak of a training step on the device, and of an evaluation; host memory; what fits `budget`."""
    peaks = [entry.predicted.peak_bytes for entry in entries if entry.predicted]
    unit = next((name for name, size in UNITS.items() if max(peaks, default=0) >= size), "KiB")
    head = [*HEAD, *SHOWN.values(), f"train {unit}", "evaluate", "host"]
    if budget is not None:
        head += ["fits", "largest micro", "cheapest ZeRO"]
    return head, [_row(entry, entries, UNITS[unit], budget) for entry in entries]


def _row(entry: Entry, entries: list[Entry], unit: int, budget: int | None) -> list[str]:
    cell, labels, predicted = entry.cell, entry.cell.labels(), entry.predicted
    more = [name.replace("_", " ") for name in ("checkpointing", "feature_cache") if getattr(cell, name)]
    row = [
        labels.backbone,
        ", ".join([labels.method, *more]),
        labels.regularizer,
        labels.zero,
    ]
    row += [str(cell.ranks), str(cell.micro), str(entry.tokens)]
    if predicted is None:
        return [*row, *["–"] * len(SHOWN), "–", "–", "–", *(["?", "–", "–"] if budget is not None else [])]
    train = predicted.device["train"]
    row += [f"{train[owner] / unit:.2f}" if owner in train else "host" for owner in SHOWN]
    row += [f"{sum(train.values()) / unit:.2f}", f"{sum(predicted.device['evaluate'].values()) / unit:.2f}"]
    row += [f"{sum(predicted.host.values()) / unit:.2f}"]
    if budget is not None:
        fits = "yes" if entry.fits(budget) else "no"
        row += [fits, str(entry.largest_micro_batch(budget)), cheapest(entry, entries, budget) or "none"]
    return row
