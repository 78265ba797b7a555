"""Figures of the loss surfaces in the records, as PNG and SVG: contours and reliefs, panels side by side.

Imported by `bench landscape` alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.board.figures import drawing
from bench.board.sections.surfaces import Panel, Sheet
from bench.board.writers.markdown import measured

COLOURS = "viridis"  # even steps of lightness, also to those who see fewer colours
TITLES = {"embeddings": "Loss around the inputs", "weights": "Loss around the trained weights"}
AXES = {
    "embeddings": ("along the gradient", "orthogonal", "in L2 of the word embeddings"),
    "weights": ("random direction 1", "random direction 2", "in norms of the trained filters"),
}
SHARPNESS = {"embeddings": "sharpness", "weights": "rise"}  # as the board calls the rise per unit of radius
WIDTH, HEIGHT, LINE, FOOT, BAR = 2.15, 2.05, 0.15, 0.15, 1.0  # inches: of a panel, a title's line, margins


def write(found: list[Sheet], folder: Path) -> list[Path]:
    """`landscape-<kind>-<setting>` and the same with `-3d`, each as .png and .svg in `folder`."""
    written: list[Path] = []
    names = drawing.names([(f"landscape-{sheet.kind}", sheet.setting) for sheet in found])
    for name, sheet in zip(names, found, strict=True):
        for suffix, draw in FORMS.items():
            made = drawing.rendered(partial(draw, sheet))
            written += drawing.save(made, folder, f"{name}{suffix}")
    return written


def contours(sheet: Sheet) -> Figure:
    """Filled, with lines at the ticks of the colour bar."""
    figure, places = _page(sheet, (0.42, 0.4, 0.08, 0.0), None)
    ticks = _colour_bar(figure, sheet)
    first, second, _ = AXES[sheet.kind]
    for number, (axes, panel) in enumerate(zip(places, sheet.panels, strict=True)):
        line, loss = _grid(panel)
        axes.contourf(line, line, loss.T, np.linspace(*sheet.limits, 65), cmap=COLOURS, antialiased=False)
        inside = [tick for tick in ticks if loss.min() < tick < loss.max()]
        if inside:
            axes.contour(line, line, loss.T, inside, colors="white", linewidths=0.5)
        axes.plot(0, 0, "+", color="white", markersize=6, markeredgewidth=1)
        lowest, leftmost = number + sheet.columns >= len(sheet.panels), number % sheet.columns == 0
        axes.tick_params(labelsize=7, labelbottom=lowest, labelleft=leftmost)
        axes.set_xlabel(first if lowest else "")
        axes.set_ylabel(second if leftmost else "")
        _few_ticks(axes.xaxis, axes.yaxis)
    return figure


def reliefs(sheet: Sheet) -> Figure:
    """The same surfaces in three dimensions."""
    figure, places = _page(sheet, (0.0, 0.0, 0.0, -0.3), "3d")
    _colour_bar(figure, sheet)
    first, second, _ = AXES[sheet.kind]
    for axes, panel in zip(places, sheet.panels, strict=True):
        line, loss = _grid(panel)
        x, y = np.meshgrid(line, line, indexing="ij")
        every: dict[str, Any] = {"rcount": len(line), "ccount": len(line)}
        norm = Normalize(*sheet.limits)
        axes.plot_surface(x, y, loss, cmap=COLOURS, norm=norm, linewidth=0.1, edgecolor="#00000040", **every)
        axes.set_zlim(*sheet.limits)
        axes.view_init(elev=28, azim=-125)
        axes.set_box_aspect(None, zoom=0.95)
        axes.set_xlabel(first, labelpad=-8, fontsize=7)
        axes.set_ylabel(second, labelpad=-8, fontsize=7)
        axes.tick_params(labelsize=6, pad=-3)
        _few_ticks(axes.xaxis, axes.yaxis, axes.zaxis)
    return figure


FORMS: dict[str, Callable[[Sheet], Figure]] = {"": contours, "-3d": reliefs}


def _page(sheet: Sheet, margins: tuple[float, float, float, float], projection: str | None) -> tuple[Figure, list[Any]]:
    """A figure and in it a place for each panel, titled and empty. `margins`: left, bottom, right, top; inches."""
    left, bottom, right, top = margins
    titles = [_title(panel, SHARPNESS[sheet.kind]) for panel in sheet.panels]
    title = LINE * (1.5 + max(text.count("\n") + 1 for text in titles))
    rows = -(-len(titles) // sheet.columns)
    width = sheet.columns * WIDTH + BAR
    head = [f"{TITLES[sheet.kind]}, {AXES[sheet.kind][2]}", sheet.setting.title]
    head = [line for part in head for line in textwrap.wrap(part, round(12 * width))]
    height = 0.1 + 0.2 * len(head) + rows * (title + HEIGHT) + FOOT
    figure = Figure((width, height))
    places: list[Any] = []
    for number, text in enumerate(titles):
        row, column = divmod(number, sheet.columns)
        x, y = column * WIDTH + 0.1 + left, FOOT + (rows - row - 1) * (title + HEIGHT) + bottom
        size = (WIDTH - left - right, HEIGHT - bottom - top)
        axes = figure.add_axes((x / width, y / height, size[0] / width, size[1] / height), projection=projection)
        middle, line = x + size[0] / 2, FOOT + (rows - row) * (title + HEIGHT) - title + LINE / 2
        figure.text(middle / width, line / height, text, ha="center", va="bottom", linespacing=1.25)
        places.append(axes)
    figure.text(0.5, 1 - 0.1 / height, "\n".join(head), ha="center", va="top", fontsize=9, linespacing=1.35)
    return figure, places


def _colour_bar(figure: Figure, sheet: Sheet) -> np.ndarray:
    """One for all panels; its ticks."""
    width, height = figure.get_size_inches()
    tall = HEIGHT - 0.2
    bottom = FOOT + 0.2 if len(sheet.panels) <= sheet.columns else (height - tall) / 2 - LINE
    place = figure.add_axes((1 - (BAR - 0.3) / width, bottom / height, 0.11 / width, tall / height))
    ticks = np.asarray(MaxNLocator(8).tick_values(*sheet.limits))
    ticks = ticks[(ticks >= sheet.limits[0]) & (ticks <= sheet.limits[1])]
    bar = figure.colorbar(ScalarMappable(Normalize(*sheet.limits), COLOURS), cax=place, ticks=ticks.tolist())
    bar.set_label("mean cross-entropy")
    place.hlines(ticks, 0, 1, colors="white", linewidths=0.5)
    place.tick_params(labelsize=7)
    return ticks


def _title(panel: Panel, sharpness: str) -> str:
    regularizer = "no regularizer" if panel.regularizer == "none" else panel.regularizer
    lines = [
        line for part in (panel.method, regularizer) for line in textwrap.wrap(part, 34, max_lines=2, placeholder=" …")
    ]
    seeds = "1 seed" if panel.seeds == 1 else f"{panel.seeds} seeds"
    return "\n".join([*lines, f"{sharpness} {measured(panel.rise)}, {seeds}"])


def _few_ticks(*axes: Any) -> None:
    for axis in axes:
        axis.set_major_locator(MaxNLocator(4))


def _grid(panel: Panel) -> tuple[np.ndarray, np.ma.MaskedArray[Any, Any]]:
    """The offsets [G] along both directions, and the losses [G, G], rows along the first."""
    loss = np.ma.masked_invalid(np.array(panel.loss))
    return np.linspace(-panel.radius, panel.radius, len(loss)), loss
