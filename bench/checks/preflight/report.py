"""What a preflight found: a table for people, JSON for scripts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, get_args

from bench.checks.preflight.faults import known
from bench.checks.preflight.probes import Probe, reference_name
from bench.checks.preflight.verdicts import Finding, Verdict
from bench.matrix.cell import Cell, identity_json
from bench.records.record import Environment


@dataclass(frozen=True)
class Report:
    matrix: str
    probes: list[Probe]
    verdicts: dict[str, Verdict]  # by the probe's name
    environment: Environment | None

    def of_cells(self) -> dict[str, Verdict]:
        """By the name of the cell."""
        return {name: self.verdicts[probe.name] for probe in self.probes for name in probe.stands_for}

    @property
    def wrong(self) -> bool:
        return any(verdict.finding == "wrong" for verdict in self.verdicts.values())

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows. Columns that are the same in all rows are left out, but method and regularizer."""
        columns = _zero_labels(self.probes)
        rows: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        for probe in self.probes:
            _, found = rows.setdefault(reference_name(probe.cell), (described(probe.cell), {}))
            found[columns[identity_json(probe.cell.zero)]] = self.verdicts[probe.name].finding
        told = [facts for facts, _ in rows.values()]
        names = [n for n in told[0] if n in ("method", "regularizer") or len({facts[n] for facts in told}) > 1]
        body = [
            [facts[name] for name in names] + [found.get(zero, "") for zero in columns.values()]
            for facts, found in rows.values()
        ]
        return [*names, *columns.values()], body

    def lines(self) -> list[str]:
        """One for each probe that is wrong or unsupported, and the count of all findings."""
        made: list[str] = []
        for probe in self.probes:
            verdict = self.verdicts[probe.name]
            if verdict.finding in ("wrong", "unsupported"):
                fault = known(verdict)
                link = "" if fault is None else f" ({fault.line}: {fault.link})"
                made.append(f"{called(probe.cell)}: {verdict.why}{link}")
        counts = Counter(verdict.finding for verdict in self.verdicts.values())
        return [*made, ", ".join(f"{counts[finding]} {finding}" for finding in get_args(Finding) if counts[finding])]

    def content(self) -> dict[str, Any]:
        return {
            "matrix": self.matrix,
            "environment": None if self.environment is None else self.environment.model_dump(mode="json"),
            "probes": [self._plain(probe) for probe in self.probes],
        }

    def _plain(self, probe: Probe) -> dict[str, Any]:
        verdict = self.verdicts[probe.name]
        fault = known(verdict)
        return {
            **described(probe.cell),
            "zero": probe.cell.zero.label,
            **verdict.model_dump(mode="json"),
            "link": None if fault is None else fault.link,
            "cells": list(probe.stands_for),
            "probe": probe.cell.content(),
        }


def described(probe: Cell) -> dict[str, str]:
    """What a row is about."""
    return {
        "method": probe.method.label,
        "regularizer": probe.regularizer.label,
        "precision": probe.precision,
        "checkpointing": "yes" if probe.checkpointing else "no",
        "backbone": probe.backbone.label,
        "head": probe.head.label,
        "classes": str(len(probe.task.labels)),
        "ranks": str(probe.ranks),
        "passes": str(probe.accumulation),
    }


def called(probe: Cell) -> str:
    """On one line."""
    parts = [probe.method.label, probe.regularizer.label, probe.precision, probe.zero.label]
    parts += ["checkpointing"] if probe.checkpointing else []
    return " · ".join([*parts, probe.backbone.label, f"{probe.ranks} ranks"])


def _zero_labels(probes: list[Probe]) -> dict[str, str]:
    """Of every configuration, by its content; two files of one name are told apart."""
    labels: dict[str, str] = {}
    for probe in probes:
        content = identity_json(probe.cell.zero)
        if content not in labels:
            same = sum(label.split(" ")[0] == probe.cell.zero.label for label in labels.values())
            labels[content] = probe.cell.zero.label + (f" ({same + 1})" if same else "")
    return labels
