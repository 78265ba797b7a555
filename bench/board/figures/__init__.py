"""The static figures of a paper, as PNG and SVG: quality against costs, seeds, memory by owner, scaling over ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from bench.board.contents import Contents, Table
from bench.board.figures import drawing, pareto, scaling, stacks, strips
from bench.board.figures.scaling import Curves

# kind -> whether a table has what it shows, and the figure
FORMS: dict[str, tuple[Callable[[Table], bool], Callable[[Table], Figure]]] = {
    "pareto": (pareto.shows, pareto.draw),
    "seeds": (strips.shows, strips.draw),
    "memory": (stacks.shows, stacks.draw),
}
NO_CURVES = "no scaling figure: no two cells of one method differ in ranks only"


def write(contents: Contents, folder: Path) -> tuple[list[Path], list[str]]:
    """`<kind>-<setting>.png` and `.svg` in `folder`; a line for each kind that there is nothing to draw of."""
    written: list[Path] = []
    missing: list[str] = []
    for kind, (shows, draw) in FORMS.items():
        found = [table for table in contents.tables if shows(table)]
        names = drawing.names([(kind, table.setting) for table in found])
        for name, table in zip(names, found, strict=True):
            written += drawing.save(drawing.rendered(partial(draw, table)), folder, name)
        missing += [] if found else [f"no {kind} figure: no record has what it shows"]
    over_ranks = scaling.curves(contents.records)
    for name, one in zip(_names(over_ranks), over_ranks, strict=True):
        written += drawing.save(drawing.rendered(partial(scaling.draw, one)), folder, name)
    return written, missing + ([] if over_ranks else [NO_CURVES])


def _names(found: Sequence[Curves]) -> list[str]:
    return drawing.named([("scaling", one.title, one.details) for one in found])
