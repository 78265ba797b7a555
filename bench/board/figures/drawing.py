"""What all figures share: how they look, how they become files, and what the files are called.

The same bytes for the same records and the same matplotlib. Imported by commands that draw alone.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.board.analysis.grouping import Setting
from bench.core import files

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # matplotlib brings it
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.linewidth": 0.5,
    "svg.hashsalt": "promptzero",
    "text.parse_math": False,  # labels come from records
}
# told apart also by those who see fewer colours (Okabe and Ito 2008; its yellow is too light on white)
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")


WIDTH = 7.0  # inches, of a page's text
LEGEND_SIZE, LEGEND_LINE = 6.5, 0.155  # points, inches


@dataclass(frozen=True)
class Look:
    """Of a method, in every figure of a setting the same."""

    colour: str
    marker: str


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """By name; colour and marker together are each method's own, up to 84 of them."""
    return {
        method: Look(PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)])
        for place, method in enumerate(sorted(set(methods)))
    }


def rendered(draw: Callable[[], Figure]) -> dict[str, bytes]:
    """As png and svg, in our style alone whatever the user's matplotlibrc says."""
    made: dict[str, bytes] = {}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = draw()
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            out = io.BytesIO()
            figure.savefig(out, format=kind, metadata=metadata, dpi=200)
            made[kind] = out.getvalue()
    return made


def save(made: Mapping[str, bytes], folder: Path, name: str) -> list[Path]:
    """`name`.png and `name`.svg."""
    for kind, content in made.items():
        files.write(folder / f"{name}.{kind}", content)
    return [folder / f"{name}.{kind}" for kind in made]


def names(found: Sequence[tuple[str, Setting]]) -> list[str]:
    """Of each figure of a kind and a setting, `<kind>-<setting>`; with a hash where another would have the same."""
    return named([(kind, setting.title, setting.details) for kind, setting in found])


def named(found: Sequence[tuple[str, str, str]]) -> list[str]:
    """Of kind, title and details."""
    slugs = [f"{kind}-{re.sub(r'[^A-Za-z0-9_]+', '-', title).strip('-')[:100]}" for kind, title, _ in found]
    several = Counter(slugs)

    def apart(slug: str, title: str, details: str) -> str:
        content = f"{title}\n{details}"
        return f"-{hashlib.sha256(content.encode()).hexdigest()[:8]}" if several[slug] > 1 else ""

    return [slug + apart(slug, *rest) for slug, (_, *rest) in zip(slugs, found, strict=True)]


def legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Below all panels."""
    place: dict[str, Any] = {"loc": "outside lower center", "frameon": False}
    figure.legend(handles=list(handles), ncols=_columns(handles), fontsize=LEGEND_SIZE, **place)


def legend_height(handles: Sequence[Line2D]) -> float:
    """In inches."""
    return LEGEND_LINE * -(-len(handles) // _columns(handles))


def _columns(handles: Sequence[Line2D]) -> int:
    """The most, up to three, whose longest names fit side by side."""
    lengths = [len(str(handle.get_label())) for handle in handles]

    def width(columns: int) -> float:
        high = -(-len(lengths) // columns)
        longest = [max(lengths[start : start + high]) for start in range(0, len(lengths), high)]
        return sum(0.052 * letters + 0.45 for letters in longest)  # inches of a letter, of a handle with its margins

    return next((columns for columns in (3, 2) if width(columns) < WIDTH), 1)


def log_ticks(axis: Any, costs: Sequence[float]) -> None:
    """At 1, 2 and 5 within two decades, else at the powers of ten."""
    wide = max(costs) > 100 * min(costs)
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(_short))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float, _: object) -> str:
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
