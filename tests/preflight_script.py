"""Called on warm ranks by test_preflight.py: probes as the ranks of a preflight serve them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.cells import rebuild
from bench.clocks import Clocks
from bench.engine import World
from bench.preflight import worker
from bench.preflight.check import Reference


def serve(world: World, folder: str, contents: list[dict[str, Any]]) -> None:
    """Writes a verdict on each into the folder. A refusal by all ranks ends nothing."""
    reference: Reference | None = None
    for content in contents:
        reference = worker.serve(rebuild(content), world, Path(folder), reference, Clocks()) or reference
