"""Published numbers beside ours, where backbone, task, regime and method are the same, and why protocols differ.

Where the backbone is another, nothing is compared: those numbers stand in a table of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.board.analysis.grouping import Row, Setting, Spread
from bench.board.writers.tables import table, text
from bench.records import published
from bench.records.published import Comparison, Figure
from bench.records.record import Labels

HEADING = "Published numbers"
HEAD = ("setting", "method", "what", "ours", "published", "difference", "source", "protocol")
SCALES = {"percent": 100.0, "fraction": 1.0}
NOTE = (
    "Ours beside what papers report for the same backbone, task, regime and method; difference is ours less theirs, in "
    "the number's own unit. Where the protocol is another, the difference says no more than the reasons below allow.\n"
)
CONTEXT = (
    "What papers report for these tasks and methods with backbones or settings of their own; it compares nothing.\n"
)


@dataclass(frozen=True)
class Beside:
    """A number of ours and the one that a paper printed of it, both in the unit of the latter."""

    setting: str
    row: Row
    figure: Figure
    ours: Spread
    comparison: Comparison

    @property
    def difference(self) -> float | None:
        return None if self.ours.mean is None else self.ours.mean - self.figure.value


def comparisons(settings: Iterable[Setting], figures: Sequence[Figure]) -> list[Beside]:
    """By setting, then by row, then as the papers come; a number that is of no task is there once for each method."""
    every = [(figure, one) for figure in figures for one in figure.compare]
    found: list[Beside] = []
    for setting in settings:
        near = [(figure, one) for figure, one in every if _of_setting(setting.rows[0].records[0].labels, one)]
        for row in setting.rows if near else ():
            found += _beside(setting, row, near)
    return list({_identity(one): one for one in reversed(found)}.values())[::-1]


def _beside(setting: Setting, row: Row, near: Iterable[tuple[Figure, Comparison]]) -> Iterator[Beside]:
    """Of a row without a regularizer, which no published number has."""
    if _kind(row, "regularizer") != "none":
        return
    for figure, one in near:
        ours = _ours(row, figure) if _among(one.method, row.records[0].cell.get("method")) else None
        if ours is not None and ours.mean is not None:
            yield Beside(setting.title, row, figure, ours, one)


def _identity(one: Beside) -> tuple[Any, ...]:
    """The same for two that say the same: numbers of no task come once for each setting."""
    return id(one.figure), one.row.method, one.ours, None if one.comparison.task is None else id(one.row)


def context(settings: Iterable[Setting], figures: Sequence[Figure], beside: Sequence[Beside]) -> list[Figure]:
    """What was read of the tasks and kinds of methods in the settings, and is not beside a number of ours."""
    rows = [row for setting in settings for row in setting.rows]
    tasks = {row.records[0].labels.task for row in rows}
    kinds = {_sort(row.records[0].cell.get("method")) for row in rows}
    shown = {id(one.figure) for one in beside}
    return [
        figure
        for figure in figures
        if figure.evidence == "read"
        and id(figure) not in shown
        and any((one.task is None or one.task in tasks) and _sort(one.method) in kinds for one in figure.compare)
    ]


@cache
def shipped() -> tuple[Figure, ...]:
    return tuple(published.figures())


def _of_setting(labels: Labels, one: Comparison) -> bool:
    return (
        labels.backbone == one.backbone
        and one.task in (None, labels.task)
        and (one.regime is None or _regime(one.regime) == labels.regime)
    )


def _regime(regime: Any) -> str:
    """As labels of records have it."""
    match regime:
        case {"total": count}:
            return f"total-{count}"
        case {"per_class": count}:
            return f"{count}-per-class"
        case _:
            return str(regime)


def _among(expected: Any, found: Any) -> bool:
    """Whether all that is expected is there, also inside of mappings."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(_among(value, found.get(key)) for key, value in expected.items())
    return expected == found


def _kind(row: Row, field: str) -> Any:
    value = row.records[0].cell.get(field)
    return value.get("kind") if isinstance(value, dict) else value


def _sort(method: Any) -> tuple[Any, ...]:
    """What two methods have in common that are the same but for their sizes."""
    if not isinstance(method, dict):
        return (method,)
    config = method.get("config")
    return method.get("kind"), config.get("peft_type") if isinstance(config, dict) else None


def _ours(row: Row, figure: Figure) -> Spread | None:
    """None where we have no such number: other metrics, and seconds, which are those of a machine."""
    if figure.unit == "parameters" and figure.quantity == "trainable parameters":
        count = row.trainable_parameters
        return None if count is None else Spread(float(count), None, 1)
    if figure.quantity != "score" or figure.unit not in SCALES:
        return None
    return Spread.of([SCALES[figure.unit] * value for value in _scores(row, figure.metric)])


def _scores(row: Row, metric: str | None) -> list[float]:
    """On test, of each seed; in that metric where one is named."""
    found = [record.quality for record in row.finished if record.quality]
    if metric is None or all(quality.metric == metric for quality in found):
        return [quality.test for quality in found]
    name = metric.lower().replace("-", "_")
    return [quality.scores[name] for quality in found if name in quality.scores]


def reasons(found: Iterable[Beside]) -> list[str]:
    """Every reason why a protocol is another, once, in the order in which they come up."""
    return list(dict.fromkeys(why for one in found for why in one.comparison.differs))


def lines(found: Sequence[Beside]) -> list[list[str]]:
    """The cells of HEAD, as plain text; reasons by their numbers."""
    places = {why: place for place, why in enumerate(reasons(found), 1)}
    return [
        [
            *(one.setting, one.row.method, what(one.figure)),
            *(_shown(one.ours, one.figure), one.figure.printed),
            "–" if one.difference is None else _number(one.difference, one.figure, "+"),
            source(one.figure),
            "same"
            if one.comparison.same_protocol
            else f"other: {', '.join(str(places[w]) for w in one.comparison.differs)}",
        ]
        for one in found
    ]


def what(figure: Figure) -> str:
    metric = f", {figure.metric}" if figure.metric else ""
    return f"{figure.quantity}{metric}, {'%' if figure.unit == 'percent' else figure.unit}"


def source(figure: Figure) -> str:
    return f"{figure.where}, {figure.locator}"


def _shown(spread: Spread, figure: Figure) -> str:
    assert spread.mean is not None
    deviation = "" if spread.deviation is None else f" ± {_number(spread.deviation, figure)}"
    return _number(spread.mean, figure) + deviation


def _number(value: float, figure: Figure, sign: str = "") -> str:
    places = {"percent": 1, "fraction": 3}.get(figure.unit, 0)
    return f"{value:{sign},.{places}f}"


def context_table(found: Sequence[Figure]) -> tuple[list[str], list[list[str]]]:
    """Head and rows as plain text: a row for a method in a source, a column for each task."""
    tasks = sorted({one.task for figure in found for one in figure.compare if one.task is not None})
    rows: dict[tuple[str, ...], dict[str | None, str]] = {}
    for figure in found:
        key = (figure.method, figure.backbone or "–", figure.regime or "–", what(figure), source(figure))
        for one in figure.compare:
            rows.setdefault(key, {})[one.task] = figure.printed
    head = ["method", "backbone", "data", "what", "source", *tasks]
    loose = any(None in cells for cells in rows.values())
    columns = [*tasks, *([None] if loose else [])]
    made = [[*key, *(cells.get(task, "–") for task in columns)] for key, cells in rows.items()]
    return [*head, *(["of no task"] if loose else [])], made


def section(beside: Sequence[Beside], around: Sequence[Figure]) -> str:
    """Markdown: both tables; nothing where no paper has a number of these tasks and methods."""
    parts: list[str] = []
    if beside:
        listed = "".join(f"{place}. {text(why)}\n" for place, why in enumerate(reasons(beside), 1))
        rows = [[text(cell) for cell in line] for line in lines(beside)]
        parts.append("\n".join([NOTE, table(HEAD, rows, left=3), *([listed] if listed else [])]))
    if around:
        head, rows = context_table(around)
        made = table(head, [[text(cell) for cell in row] for row in rows], left=5)
        parts.append(f"{CONTEXT}\n<details>\n<summary>{len(around)} numbers</summary>\n\n{made}\n</details>\n")
    return "\n".join([f"## {HEADING}\n", *parts]) if parts else ""
