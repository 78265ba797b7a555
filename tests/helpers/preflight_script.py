"""Called on warm ranks by test_preflight.py: probes as the ranks of a preflight serve them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.checks.preflight import worker
from bench.checks.preflight.check import Reference
from bench.cluster.timeouts import Timeouts
from bench.matrix.cell import rebuild
from bench.training.engine import World


def serve(world: World, folder: str, contents: list[dict[str, Any]]) -> None:
    """Writes a verdict on each into the folder. A refusal by all ranks ends nothing."""
    reference: Reference | None = None
    for content in contents:
        reference = worker.serve(rebuild(content), world, Path(folder), reference, Timeouts()) or reference
