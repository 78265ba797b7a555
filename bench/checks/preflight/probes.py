"""From cells to probes: each distinct combination of what can change a gradient, once."""

from __future__ import annotations

from dataclasses import dataclass

from bench.core.seeds import VARY
from bench.data.tasks import Regime, Task
from bench.matrix.cell import Cell, changed
from bench.models.backbones import Backbone

MICRO = 2  # examples per rank and pass
PASSES = 2  # of an accumulated step, at most: more of them add nothing new


@dataclass(frozen=True)
class Probe:
    """A cell on a tiny backbone, and the names of the cells it stands for."""

    cell: Cell
    stands_for: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.cell.name


def probes(cells: list[Cell]) -> list[Probe]:
    """Those that differ in nothing but ZeRO come one after another: they share a reference."""
    found: dict[str, tuple[Cell, list[str]]] = {}
    for cell in cells:
        reduced = reduce(cell)
        found.setdefault(reduced.name, (reduced, []))[1].append(cell.name)
    by_reference: dict[str, list[Probe]] = {}
    for reduced, names in found.values():
        by_reference.setdefault(reference_name(reduced), []).append(Probe(reduced, tuple(names)))
    return [probe for same in by_reference.values() for probe in same]


def reduce(cell: Cell) -> Cell:
    """The probe of a cell: what cannot change the gradient of one step is set to one value for all."""
    passes = min(cell.accumulation, PASSES)
    return changed(
        cell,
        backbone=_tiny(cell.backbone),
        task=_task(len(cell.task.labels)),
        regime=Regime(),
        method=cell.method.with_own_recipe(),
        regularizer=cell.regularizer.probed,
        seed=0,
        vary=VARY,
        steps=1,
        epochs=None,
        weights=Cell.model_fields["weights"].get_default(),
        micro_batch_size=MICRO,
        batch_size=cell.ranks * MICRO * passes,
        select="last",
        evaluate_every=None,
        patience=None,
        max_length=Cell.model_fields["max_length"].get_default(),
        lower_dropout=False,
        feature_cache=False,
        landscape=None,
    )


def reference_name(probe: Cell) -> str:
    """What its reference depends on: all but ZeRO."""
    return changed(probe, zero=None).name


def _tiny(backbone: Backbone) -> Backbone:
    return Backbone(
        name=f"{backbone.model_type}, {backbone.layers} layers" + ("" if backbone.lm_head else ", no LM head"),
        source="built-in",
        location="",
        model_type=backbone.model_type,
        layers=backbone.layers,
        lm_head=backbone.lm_head,
    )


def _task(classes: int) -> Task:
    return Task(
        name=f"{classes} classes",
        source="random",
        splits={},
        fields=(),
        labels=tuple(range(classes)),
        words=("",) * classes,
        masked="",
        causal="",
    )
