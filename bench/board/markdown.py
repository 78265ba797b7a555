"""leaderboard.md: a table per setting, best mean on test first, then the cells that did not finish."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bench.board.grouping import Row, Setting, Spread, settings
from bench.board.regularizers import HEAD, costs
from bench.records import Record

UNKNOWN = "–"

COLUMNS: dict[str, Callable[[Row], str]] = {
    "method": lambda row: text(row.method),
    "regularizer": lambda row: text(row.regularizer),
    "test %": lambda row: percent(row.test),
    "dev %": lambda row: percent(row.dev),
    "sharpness": lambda row: measured(row.sharpness),
    "seeds": lambda row: seeds(row),
    "tokens/s": lambda row: number(row.tokens_per_second, 0),
    "step ms": lambda row: number(row.step_milliseconds, 1),
    "peak MiB/rank": lambda row: number(None if row.peak_bytes is None else row.peak_bytes / 2**20, 1),
    "trainable": lambda row: number(row.trainable_parameters, 0),
}

SCORES = {"test %", "dev %"}


def markdown(records: list[Record]) -> str:
    """The whole board. Test and dev are mean ± sample standard deviation over seeds."""
    parts = ["# Leaderboard\n"]
    parts += [
        "Mean ± sample standard deviation over seeds. Weights are selected on dev, never on test. Tokens are the "
        "text's own, without padding and prompts; step is the median; peak is that of training, on the rank that "
        f"needed most. {UNKNOWN} is not known.\n"
    ]
    tables = settings(records)
    if any(map(has_sharpness, tables)):
        parts.append(
            "Sharpness is how far the mean loss rises within the radius around the inputs, divided by the radius: each "
            "example is moved along its gradient and an orthogonal direction of its word embeddings.\n"
        )
    parts += [section(setting) for setting in tables]
    failed = [record for record in records if record.status != "ok"]
    if failed:
        parts.append("## Cells that did not finish\n\n" + failures(failed))
    return "\n".join(parts)


def section(setting: Setting) -> str:
    left_out = set[str]() if has_sharpness(setting) else {"sharpness"}
    left_out |= SCORES if setting.cost_only else set[str]()
    columns = {name: show for name, show in COLUMNS.items() if name not in left_out}
    rows = [[show(row) for show in columns.values()] for row in setting.rows]
    board = f"## {text(setting.title)}\n\n{text(setting.details)}\n\n{table(list(columns), rows, left=2)}"
    return board + regularizer_costs(setting)


def has_sharpness(setting: Setting) -> bool:
    return any(row.sharpness.count for row in setting.rows)


def regularizer_costs(setting: Setting) -> str:
    """Nothing where no regularized row has a plain one beside it."""
    found = costs(setting)
    rows = [
        [text(method), text(regularizer), number(step, 1), number(ratio, 2), number(counted, 2), number(refresh, 1)]
        for method, regularizer, step, ratio, counted, refresh in found
    ]
    return f"\nWhat the regularizers cost:\n\n{table(HEAD, rows, left=2)}" if rows else ""


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


def measured(spread: Spread) -> str:
    """The mean to three digits, the deviation to as many decimals."""
    if spread.mean is None:
        return UNKNOWN
    decimals = 2 - math.floor(math.log10(abs(spread.mean))) if spread.mean else 0
    decimals = min(max(decimals, 0), 8)
    deviation = "" if spread.deviation is None else f" ± {spread.deviation:.{decimals}f}"
    return f"{spread.mean:.{decimals}f}{deviation}"


def seeds(row: Row) -> str:
    done, tried = len(row.finished), len(row.records)
    return str(done) if done == tried else f"{done} of {tried}"


def number(value: float | None, decimals: int) -> str:
    return UNKNOWN if value is None else f"{value:,.{decimals}f}"
