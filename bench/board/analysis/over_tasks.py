"""Over tasks: settings that differ in nothing but the task, put together method by method.

Every task counts the same. Rows whose hyper-parameters were chosen have the choice of each task. Ranks and ratios are
made as in a setting's table, with the tasks as strata; a row without a score on every task has none.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bench.board.analysis.grouping import (
    COMPARED,
    Group,
    Row,
    Setting,
    chosen,
    digest,
    groups,
    key_of,
    method_key,
    regularizer_key,
    settings,
)
from bench.board.analysis.ranks import Ranking, ranking, runs
from bench.board.analysis.stability import COMPARED as RATIO
from bench.board.analysis.stability import NOTE, Steadiness, compared, steadiness
from bench.board.analysis.statistics import Interval, interquartile_mean, mean_interval
from bench.board.sections import titles
from bench.board.sections.notes import ties
from bench.board.writers.tables import UNKNOWN, number, points, span, table, text
from bench.records.record import Record

HEADING = "Over tasks"
INTRODUCTION = (
    "The mean of the tasks' means on test with its 95 % bootstrap interval, seeds drawn within each task; IQM is the "
    "interquartile mean of all runs, sd the standard deviation within tasks, pooled. Mean place is that of the row's "
    "mean among those of each task (Demšar 2006). A row without a score on every task comes last and is not ranked.\n"
)


@dataclass(frozen=True)
class Line:
    """A method with a regularizer, over tasks."""

    method: str
    regularizer: str
    key: tuple[str, str]  # of method and regularizer, without what was chosen
    rows: dict[str, Row]  # with a score, by task
    places: tuple[float, ...]  # of their means among those of their task, 1 is best; equal ones share the middle

    @property
    def strata(self) -> list[list[float]]:
        return [row.scores for row in self.rows.values()]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(map(statistics.fmean, self.strata)) if self.rows else None

    @property
    def interval(self) -> Interval | None:
        return mean_interval(self.strata)

    @property
    def deviation(self) -> float | None:
        """Pooled within tasks; None where a task has one seed only."""
        if not self.rows or any(len(scores) < 2 for scores in self.strata):
            return None
        squares = sum(statistics.variance(scores) * (len(scores) - 1) for scores in self.strata)
        return (squares / sum(len(scores) - 1 for scores in self.strata)) ** 0.5


@dataclass(frozen=True)
class Summary:
    """One table: what its settings have in common but the task."""

    title: str
    details: str
    tasks: tuple[str, ...]
    lines: tuple[Line, ...]  # those with all tasks first, best mean first
    ranking: Ranking
    steadiness: list[Steadiness | None]  # of the lines with all tasks

    @property
    def ranks(self) -> list[int | None]:
        """Of every line."""
        return [*self.ranking.rank, *[None] * (len(self.lines) - len(self.ranking.rank))]


def over_tasks(found: Iterable[Summary]) -> str:
    """Their tables; nothing where there are none."""
    made = [section(summary) for summary in found]
    return "\n".join([f"## {HEADING}\n", INTRODUCTION, *made]) if made else ""


def summaries(records: Iterable[Record]) -> list[Summary]:
    found = groups((one for one in records if one.quality), (*COMPARED, "task"), _title)
    return [summary for group in found if (summary := _summary(group)) is not None]


def section(summary: Summary) -> str:
    head, lines = tabled(summary)
    made = table(head, [[text(cell) for cell in line] for line in lines], left=3)
    return f"### {text(summary.title)}\n\n{text(details(summary))}\n\n{made}\n{notes(summary)}"


def details(summary: Summary) -> str:
    return f"{summary.details}. Tasks: {', '.join(summary.tasks)}."


def notes(summary: Summary) -> str:
    """What the table could have told apart, and what its ratios are."""
    return "\n".join(filter(None, (ties(summary.ranking), NOTE if any(summary.steadiness) else "")))


def tabled(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Its head and its lines, as plain text."""
    head = ["rank", "method", "regularizer", "mean test %", "95 % of mean", "IQM", "sd", "mean place", "tasks"]
    lines = [
        [UNKNOWN if rank is None else str(rank), *_cells(line, len(summary.tasks))]
        for rank, line in zip(summary.ranks, summary.lines, strict=True)
    ]
    if not any(summary.steadiness):
        return head, lines
    left = [None] * (len(lines) - len(summary.steadiness))
    ratios = map(compared, [*summary.steadiness, *left])
    return [*head, *RATIO], [[*line, *ratio] for line, ratio in zip(lines, ratios, strict=True)]


def _cells(line: Line, tasks: int) -> list[str]:
    runs = [score for scores in line.strata for score in scores]
    interval = line.interval
    return [
        *(line.method, line.regularizer, points(line.mean)),
        UNKNOWN if interval is None else span(interval, 1, 100),
        *(points(interquartile_mean(runs) if len(runs) >= 4 else None), points(line.deviation)),
        number(statistics.fmean(line.places), 1),
        str(tasks) if len(line.rows) == tasks else f"{len(line.rows)} of {tasks}",
    ]


def _summary(group: Group) -> Summary | None:
    """None of one task; of cells without scores there are no records here."""
    by_task = _by_task(settings(group.records))
    if len(by_task) < 2:
        return None
    found: dict[tuple[str, str], list[tuple[str, Row, float]]] = {}
    for task, setting in by_task.items():
        for row, place in zip(setting.rows, _places(setting), strict=True):
            cell = row.records[0].cell
            found.setdefault((method_key(cell), regularizer_key(cell)), []).append((task, row, place))
    lines = sorted((_line(key, rows) for key, rows in found.items()), key=_best_first)
    complete = [line for line in lines if len(line.rows) == len(by_task)]
    lines = [*complete, *(line for line in lines if len(line.rows) < len(by_task))]
    order = ranking([[runs(line.rows[task]) for task in by_task] for line in complete])
    plain = {line.key[0]: line for line in complete if line.regularizer == "none"}
    beside = [None if line.regularizer == "none" else plain.get(line.key[0]) for line in complete]
    spreads = steadiness([line.strata for line in complete], [one and one.strata for one in beside])
    return Summary(group.title, group.details, tuple(by_task), tuple(lines), order, spreads)


def _by_task(found: Iterable[Setting]) -> dict[str, Setting]:
    """By the task's name; with a hash where another task has the same."""
    tasks = [(setting, setting.rows[0].records[0]) for setting in found]
    several = Counter(record.labels.task for _, record in tasks)

    def name(record: Record) -> str:
        label = record.labels.task
        return f"{label} {digest(key_of(record.cell.get('task')))}" if several[label] > 1 else label

    return {name(record): setting for setting, record in tasks}


def _places(setting: Setting) -> list[float]:
    from scipy.stats import rankdata

    return rankdata([-statistics.fmean(row.scores) for row in setting.rows]).tolist()


def _line(key: tuple[str, str], found: list[tuple[str, Row, float]]) -> Line:
    record = found[0][1].records[0]
    names = chosen(record.cell)
    words = (word for word in record.labels.regularizer.split() if word.partition("=")[0] not in names)
    method = found[0][1].method if not names else f"{record.labels.method} (chosen: {', '.join(sorted(names))})"
    return Line(
        method, " ".join(words), key, {task: row for task, row, _ in found}, tuple(place for _, _, place in found)
    )


def _best_first(line: Line) -> tuple[float, str, str]:
    return -(line.mean or 0), line.method, line.regularizer


def _title(record: Record) -> str:
    labels = record.labels
    return " · ".join((labels.regime, labels.backbone, f"{labels.zero}, {titles.ranks(record.cell)}"))
