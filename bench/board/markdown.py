"""leaderboard.md: a table per setting, best mean on test first, then the cells that did not finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.board.grouping import Row, Setting, Spread, settings
from bench.records import Record

UNKNOWN = "–"

COLUMNS: dict[str, Callable[[Row], str]] = {
    "method": lambda row: text(row.method),
    "regularizer": lambda row: text(row.regularizer),
    "test %": lambda row: percent(row.test),
    "dev %": lambda row: percent(row.dev),
    "seeds": lambda row: seeds(row),
    "tokens/s": lambda row: number(row.tokens_per_second, 0),
    "step ms": lambda row: number(row.step_milliseconds, 1),
    "peak MiB/rank": lambda row: number(None if row.peak_bytes is None else row.peak_bytes / 2**20, 1),
    "trainable": lambda row: number(row.trainable_parameters, 0),
}


def markdown(records: list[Record]) -> str:
    """The whole board. Test and dev are mean ± sample standard deviation over seeds."""
    parts = ["# Leaderboard\n"]
    parts += [
        "Mean ± sample standard deviation over seeds. Weights are selected on dev, never on test. Tokens are the "
        "text's own, without padding and prompts; step is the median; peak is that of training, on the rank that "
        f"needed most. {UNKNOWN} is not known.\n"
    ]
    parts += [section(setting) for setting in settings(records)]
    failed = [record for record in records if record.status != "ok"]
    if failed:
        parts.append("## Cells that did not finish\n\n" + failures(failed))
    return "\n".join(parts)


def section(setting: Setting) -> str:
    rows = [[show(row) for show in COLUMNS.values()] for row in setting.rows]
    return f"## {text(setting.title)}\n\n{text(setting.details)}\n\n{table(list(COLUMNS), rows, left=2)}"


def failures(records: Sequence[Record]) -> str:
    rows = []
    for record in sorted(records, key=lambda record: record.name):
        failure = record.failure
        place = UNKNOWN if failure is None else failure.phase
        why = UNKNOWN if failure is None else failure.exception.splitlines()[0][:120]
        rows.append([text(record.name), record.status, text(place), text(why)])
    return table(["cell", "status", "phase", "why"], rows, left=4)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """GitHub's form, aligned also as plain text; the first `left` columns are set left, the rest right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        set_ = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        return f"| {' | '.join(set_)} |\n"

    rule = [f":{'-' * (w - 1)}" if i < left else f"{'-' * (w - 1)}:" for i, w in enumerate(widths)]
    return "".join(line(cells) for cells in (head, rule, *rows))


def text(value: str) -> str:
    """A string from a record, with what Markdown or HTML would take as markup made harmless."""
    for character, harmless in {
        "&": "&amp;",
        "<": "&lt;",
        "|": "\\|",
        "`": "\\`",
        "*": "\\*",
        "\n": " ",
    }.items():
        value = value.replace(character, harmless)
    return value


def percent(spread: Spread) -> str:
    if spread.mean is None:
        return UNKNOWN
    deviation = "" if spread.deviation is None else f" ± {100 * spread.deviation:.1f}"
    return f"{100 * spread.mean:.1f}{deviation}"


def seeds(row: Row) -> str:
    done, tried = len(row.finished), len(row.records)
    return str(done) if done == tried else f"{done} of {tried}"


def number(value: float | None, decimals: int) -> str:
    return UNKNOWN if value is None else f"{value:,.{decimals}f}"
