"""leaderboard.tex: tables for a paper, to be read in by \\input."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from bench.board.analysis.stability import Steadiness
from bench.board.analysis.statistics import Interval
from bench.board.contents import Contents, Line, Table, short_method
from bench.board.sections import published
from bench.board.sections.notes import one_seed, ties
from bench.board.sections.samples import mixed
from bench.board.writers.tables import UNKNOWN, number, p_value

PREAMBLE = r"""% Made from the records by `bench board`; to be read in by \input{leaderboard}.
% Needs \usepackage{booktabs} and \usepackage{graphicx}; tables that are wider than the text are made smaller.
"""
ESCAPES = {
    **{character: rf"\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # behind the end of a row they are an argument
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}", '"': "''"},
    **{"±": r"\ensuremath{\pm}", "×": r"\ensuremath{\times}", "·": r"\ensuremath{\cdot}", "…": r"\ldots{}"},
    **{
        "–": r"\textendash{}",
        "—": r"\textemdash{}",
        "−": r"\ensuremath{-}",
        "≤": r"\ensuremath{\leq}",
        "≥": r"\ensuremath{\geq}",
    },
}
LATIN = re.compile(r"[\x20-\x7e\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017f]")
QUALITY = "rllrrrrrrr"
QUALITY_HEAD = (
    *("rank", "method", "regularizer", "test \\%", "95\\,\\% interval", "min.", "seeds", "step ms"),
    *("peak MiB", "trainable"),
)
STABILITY_HEAD = (
    "method",
    "regularizer",
    "s.d.",
    "min.",
    "IQM",
    "max.",
    "s.d.\\ ratio",
    "95\\,\\% interval",
    "$p$ (Holm)",
)
EXPLAINED = (
    "Test is mean \\ensuremath{\\pm} sample standard deviation over seeds, with the bootstrap interval of the mean; "
    "step is the median, peak that of training on the rank that needs most."
)
STEADIED = (
    "Spread over seeds, in points of test; IQM is the interquartile mean. The ratio is of the standard deviation to "
    "that of the same method without a regularizer, with its bootstrap interval; $p$ is Brown and Forsythe's, of equal "
    "spreads, corrected by Holm."
)


def tex(contents: Contents) -> str:
    parts = [PREAMBLE]
    for place, table in enumerate(contents.tables, 1):
        parts.append(_quality(table, place))
        if any(len(line.row.scores) > 1 for line in table.lines):
            parts.append(_stability(table, place))
    if contents.beside:
        parts.append(_published(contents.beside))
    return "\n".join(parts)


def escaped(value: str) -> str:
    """Text that means itself. Characters that Latin fonts lack are named by their code point."""
    plain = " ".join(unicodedata.normalize("NFC", value).split())
    return re.sub("-(?=-)", "-{}", "".join(_escaped(character) for character in plain))


def _escaped(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    return character if LATIN.fullmatch(character) else f"U+{ord(character):04X}"


def floating(label: str, caption: str, columns: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as wide as the page at most. All cells, and the caption, are TeX."""
    lines = "".join(f"{' & '.join(cells)} \\\\\n" for cells in rows)
    return (
        f"\\begin{{table*}}[t]\n\\centering\n\\caption{{{caption}}}\n\\label{{{label}}}\n\\smallskip\n"
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n\\toprule\n{' & '.join(head)} \\\\\n\\midrule\n"
        f"{lines}\\bottomrule\n\\end{{tabular}}}}\n\\end{{table*}}\n"
    )


def _quality(table: Table, place: int) -> str:
    best = " Those of the first rank are bold." if any(line.rank == 1 for line in table.lines) else ""
    caption = [
        f"{escaped(table.setting.title)}. {escaped(table.setting.details)}.",
        EXPLAINED,
        escaped(ties(table.ranking)) + best,
        escaped(one_seed(table.setting)),
        *(f"{escaped(one[0].upper() + one[1:])}." for one in mixed(table.setting)),
    ]
    rows = [_bold(_cells(line), line.rank == 1) for line in table.lines]
    return floating(f"tab:quality-{place}", " ".join(filter(None, caption)), QUALITY, QUALITY_HEAD, rows)


def _cells(line: Line) -> list[str]:
    row, done, tried = line.row, len(line.row.finished), len(line.row.records)
    peak = None if row.peak_bytes is None else row.peak_bytes / 2**20
    return [
        _unknown("" if line.rank is None else str(line.rank)),
        escaped(short_method(line.row)),
        escaped(row.regularizer),
        _mean(line),
        _interval(line.row.interval),
        _percent(min(line.row.scores, default=None)),
        str(done) if done == tried else f"{done} of {tried}",
        *map(escaped, (number(row.step_milliseconds, 1), number(peak, 1), number(row.trainable_parameters, 0))),
    ]


def _bold(cells: list[str], best: bool) -> list[str]:
    return [f"\\textbf{{{cell}}}" if best and place < 4 else cell for place, cell in enumerate(cells)]


def _mean(line: Line) -> str:
    spread = line.row.test
    deviation = "" if spread.deviation is None else f" \\ensuremath{{\\pm}} {_percent(spread.deviation)}"
    return _percent(spread.mean) + deviation


def _percent(value: float | None) -> str:
    return _unknown("" if value is None else f"{100 * value:.1f}")


def _interval(interval: Interval | None, scale: float = 100, places: int = 1) -> str:
    if interval is None:
        return _unknown("")
    return f"{{[}}{scale * interval.low:.{places}f}, {scale * interval.high:.{places}f}{{]}}"


def _unknown(shown: str) -> str:
    return shown or escaped(UNKNOWN)


def _stability(table: Table, place: int) -> str:
    rows = [
        _spread(line, steady)
        for line, steady in zip(table.lines, table.steadiness, strict=True)
        if len(line.row.scores) > 1
    ]
    caption = f"Stability: {escaped(table.setting.title)}. {STEADIED}"
    return floating(f"tab:stability-{place}", caption, "llrrrrrrr", STABILITY_HEAD, rows)


def _spread(line: Line, steady: Steadiness | None) -> list[str]:
    ratio = steady.ratio if steady else None
    return [
        *(escaped(short_method(line.row)), escaped(line.row.regularizer), _percent(line.row.test.deviation)),
        *map(_percent, (min(line.row.scores), line.row.interquartile_mean, max(line.row.scores))),
        _unknown("" if ratio is None else f"{ratio.value:.2f}"),
        _interval(ratio.interval if ratio else None, 1, 2),
        escaped(p_value(steady.p if steady else None)),
    ]


def _published(found: Sequence[published.Beside]) -> str:
    reasons = [f"({place}) {escaped(why)}" for place, why in enumerate(published.reasons(found), 1)]
    differs = f" Protocols differ in: {'; '.join(reasons)}." if reasons else ""
    rows = [[escaped(cell) for cell in line] for line in published.lines(found)]
    caption = f"Ours beside published numbers of the same backbone, task, regime and method.{differs}"
    return floating("tab:published", caption, "lllrrrll", [escaped(head) for head in published.HEAD], rows)
