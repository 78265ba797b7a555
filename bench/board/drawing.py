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

from bench import files
from bench.board.grouping import Setting

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
