"""leaderboard.md: a table per setting, best mean on test first, then the cells that did not finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.board.analysis.grouping import Row, Setting, Spread
from bench.board.analysis.over_tasks import over_tasks
from bench.board.analysis.stability import stability
from bench.board.contents import Contents, Table
from bench.board.sections import published
from bench.board.sections.failures import failures
from bench.board.sections.memory import memory
from bench.board.sections.notes import one_seed, ties
from bench.board.sections.regularizers import HEAD, costs
from bench.board.sections.samples import mixed, samples
from bench.board.sections.speed import speed
from bench.board.sections.tuning import tuning
from bench.board.sections.zero import HEADING, zero
from bench.board.writers.tables import UNKNOWN, decimals, number, span, table, text
from bench.records.record import Record
from bench.records.sample_cards import Card

COLUMNS: dict[str, Callable[[Row], str]] = {
    "method": lambda row: text(row.method),
    "regularizer": lambda row: text(row.regularizer),
    "test %": lambda row: percent(row.test),
    "95 % of mean": lambda row: UNKNOWN if row.interval is None else span(row.interval, 1, 100),
    "dev %": lambda row: percent(row.dev),
    "sharpness": lambda row: measured(row.sharpness),
    "seeds": lambda row: seeds(row),
    "tokens/s": lambda row: number(row.tokens_per_second, 0),
    "step ms": lambda row: number(row.step_milliseconds, 1),
    "peak MiB/rank": lambda row: number(None if row.peak_bytes is None else row.peak_bytes / 2**20, 1),
    "trainable": lambda row: number(row.trainable_parameters, 0),
}

SCORES = {"test %", "95 % of mean", "dev %"}

INTRODUCTION = (
    "Mean ± sample standard deviation over seeds, and the 95 % bootstrap interval of the mean. Weights are selected on "
    "dev, never on test. Tokens are the text's own, without padding and prompts; step is the median; peak is that of "
    f"training, on the rank that needed most. {UNKNOWN} is not known.\n"
)
RANKS = (
    "Rank is 1 + the number of rows that are better. One row is better than another where the paired t test over seeds "
    "and the paired test over test examples (exact McNemar for one seed) both say so, corrected for all pairs of the "
    "table (Holm). So a row that scatters may have a better rank than one with a higher mean.\n"
)
DETAILS = (
    "Under each table are stability, memory and speed. Memory is what the seed and the rank that need most have at the "
    "peak of a training step, by owner: the owners add up to the train peak. It is measured in a step that is not "
    "timed, by the allocator on a GPU, as the bytes of live tensors without one. Speed is the median over seeds; "
    "operations are all ranks', recomputation included, and MFU leaves that out.\n"
)
PREDICTED = "Predicted is the train peak that `bench plan` gives for a cell before it is launched.\n"
CACHE = (
    "With the cache's building, a cell's steps also pay for the states that it had to compute for the feature cache; "
    "no other figure has that in it.\n"
)
SHARPNESS = (
    "Sharpness is how far the mean loss rises within the radius around the inputs, divided by the radius: each "
    "example is moved along its gradient and an orthogonal direction of its word embeddings.\n"
)


def markdown(records: Sequence[Record], details: bool = True, cards: Sequence[Card] = ()) -> str:
    """The whole board; without `details`, as for a terminal, no memory by owner and no speed beyond the main tables.

    Test and dev are mean ± sample standard deviation over seeds.
    """
    return whole(Contents(records, cards), details)


def whole(contents: Contents, details: bool = True) -> str:
    records, tables = contents.records, contents.settings
    compared = zero(records, owners=details)
    parts = ["# Leaderboard\n", INTRODUCTION]
    parts += [] if all(setting.cost_only for setting in tables) else [RANKS]
    if details:
        parts.append(DETAILS)
        parts += [PREDICTED] if any(record.predicted for record in records) else []
        parts += [CACHE] if any(record.cost and record.cost.feature_cache_built for record in records) else []
    if any(map(has_sharpness, tables)):
        parts.append(SHARPNESS)
    if details and compared:
        parts.append(f"[{HEADING}](#{HEADING.lower().replace(' ', '-')}) are side by side below.\n")
    parts += [section(one) + (folded(one) if details else "") for one in contents.tables]
    around = [published.section(contents.beside, contents.around), samples(records, contents.cards)] if details else []
    last = (over_tasks(contents.summaries), compared, tuning(records), *around, failures(records))
    parts += [part for part in last if part]
    return "\n".join(parts)


def section(of: Table) -> str:
    setting, ranking = of.setting, of.ranking
    left_out = set[str]() if has_sharpness(setting) else {"sharpness"}
    left_out |= SCORES if setting.cost_only else set[str]()
    columns = {name: show for name, show in COLUMNS.items() if name not in left_out}
    rows = [[show(row) for show in columns.values()] for row in setting.rows]
    head, left, note = list(columns), 2, ""
    if not setting.cost_only:
        ranks = [UNKNOWN if rank is None else str(rank) for rank in ranking.rank]
        rows = [[rank, *row] for rank, row in zip(ranks, rows, strict=True)]
        head, left, note = ["rank", *head], 3, ties(ranking) + one_seed(setting)
    details = text(setting.details) + constant(setting)
    board = f"## {text(setting.title)}\n\n{details}\n\n{table(head, rows, left)}"
    return board + (f"\n{note}" if note else "") + warnings(setting) + departures(setting) + regularizer_costs(setting)


def warnings(setting: Setting) -> str:
    """Where rows are not comparable."""
    return "".join(f"\n**{text(line[0].upper() + line[1:])}.**\n" for line in mixed(setting))


def departures(setting: Setting) -> str:
    """Where cells do otherwise than the protocol they follow says; a line for the methods that share it."""
    rows: dict[str, list[str]] = {}
    for row in setting.rows:
        for one in row.records[0].labels.departures:
            rows.setdefault(one, []).append(row.name)
    lines = [
        f"- {text('all' if len(names) == len(setting.rows) else ', '.join(names))}: {text(one)}\n"
        for one, names in rows.items()
    ]
    protocol = setting.rows[0].records[0].cell.get("protocol")
    return f"\nDepartures from {text(str(protocol))}:\n\n{''.join(lines)}" if lines else ""


def constant(setting: Setting) -> str:
    """The best that one answer to all of test would score."""
    known = setting.constants
    return f", one answer to all {' or '.join(f'{100 * value:.1f} %' for value in known)}" if known else ""


def folded(of: Table) -> str:
    """Stability, memory and speed, each kind behind a line that a click opens."""
    setting = of.setting
    inside = {
        "Stability": stability(setting, of.steadiness),
        "Memory and speed": _joined(memory(setting), speed(setting)),
    }
    return "".join(
        f"\n<details>\n<summary>{name}</summary>\n\n{part}\n</details>\n" for name, part in inside.items() if part
    )


def _joined(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


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


def percent(spread: Spread) -> str:
    if spread.mean is None:
        return UNKNOWN
    deviation = "" if spread.deviation is None else f" ± {100 * spread.deviation:.1f}"
    return f"{100 * spread.mean:.1f}{deviation}"


def measured(spread: Spread) -> str:
    """The mean to three digits, the deviation to as many decimals."""
    if spread.mean is None:
        return UNKNOWN
    places = decimals(spread.mean)
    deviation = "" if spread.deviation is None else f" ± {spread.deviation:.{places}f}"
    return f"{spread.mean:.{places}f}{deviation}"


def seeds(row: Row) -> str:
    done, tried = len(row.finished), len(row.records)
    return str(done) if done == tried else f"{done} of {tried}"
