"""From cells to dry runs: each distinct combination of what can change a rank's memory, once."""

from __future__ import annotations

import copy

from bench.core.seeds import VARY
from bench.data.tasks import RANDOM, Regime
from bench.matrix.cell import Cell, changed
from bench.matrix.zero_config import OFFLOADS, Zero, offload_of

OFFLOADED = "offloaded gradients"
MARK = "dry: "  # before each result on stdout, where libraries print, too
PASSES = 2  # of an accumulated step, at most: more of them need no more
DIRECT = 16  # ranks up to which they are all pretended; beyond, two smaller numbers tell
FEW, MORE = 8, 16


def worlds(ranks: int) -> tuple[int, ...]:
    """On how many ranks to pretend."""
    return (ranks,) if ranks <= DIRECT else (FEW, MORE)


def probe(cell: Cell, tokens: int, ranks: int) -> Cell:
    """The cell as it is run dry on `ranks`: what cannot change its memory is set to one value for all."""
    accumulation = min(cell.accumulation, PASSES)
    return changed(
        cell,
        weights="random",
        task=RANDOM,
        regime=Regime(),
        method=cell.method.with_own_recipe(),
        regularizer=cell.regularizer.probed,
        zero=dry_zero(cell.zero),
        ranks=ranks,
        seed=0,
        vary=VARY,
        steps=3,
        epochs=None,
        micro_batch_size=cell.micro,
        batch_size=ranks * cell.micro * accumulation,
        max_length=tokens,
        select="last",
        evaluate_every=None,
        patience=None,
        compile=False,
        kernels="reference",
        landscape=None,
    )


def dry_zero(zero: Zero) -> Zero:
    """With NVMe as host memory and without quantised messages, whose kernels need a GPU; bytes stay where they are."""
    config = copy.deepcopy(zero.config)
    stage = config.get("zero_optimization", {})
    for name in OFFLOADS:
        if stage.get(name):
            stage[name] = {"device": "cpu" if offload_of(config, name)["device"] != "none" else "none"}
    for name in [name for name in stage if name.startswith("zero_quantized")]:
        del stage[name]
    config["zero_force_ds_cpu_optimizer"] = False
    return Zero(name=zero.name, config=config)


def elsewhere(zero: Zero) -> frozenset[str]:
    """Owners that the configuration keeps in host memory or on NVMe."""
    optimizer, parameters = (offload_of(zero.config, name)["device"] != "none" for name in OFFLOADS)
    return frozenset([*(["optimizer_state", OFFLOADED] if optimizer else []), *(["parameters"] if parameters else [])])
