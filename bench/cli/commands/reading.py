"""The commands that read what there is: records, and what a matrix may name."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.commands.options import JsonOption, ResultsOption
from bench.cli.terminal import fail, print_table, read, read_cards


def board(
    results: Annotated[Path, typer.Argument(help="The folder of records.")] = Path("results"),
    out: Annotated[Path | None, typer.Option(help="Where the boards go; default: into RESULTS.")] = None,
    plots: Annotated[bool, typer.Option("--plots", help="Draw figures for a paper, too: into plots/.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Regenerate the leaderboards from the records."""
    import gc

    from bench import board as boards

    gc.disable()  # nothing here is garbage before the end, and looking for it takes as long as all else
    contents = boards.Contents(read(results), read_cards(results))
    written = boards.write(contents, out or results)
    missing: list[str] = []
    if plots:
        from bench.board.figures import write  # with matplotlib

        figures, missing = write(contents, (out or results) / "plots")
        written += figures
    if as_json:
        print(json.dumps({"records": len(contents.records), "files": [str(file) for file in written]}))
    else:
        print(f"{len(contents.records)} records -> {', '.join(map(str, written))}")
    for line in missing:
        print(line, file=sys.stderr)


def claims(
    results: Annotated[Path, typer.Argument(help="The folder of records.")] = Path("results"),
    stated: Annotated[Path | None, typer.Option("--claims", help="A YAML file; default: the papers' claims.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where claims.md goes; default: into RESULTS.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the records make of the papers' claims: supported, contradicted, or not decided yet."""
    from bench.board import claims
    from bench.core import files

    found = claims.verdicts(claims.load(stated), read(results))
    file = (out or results) / "claims.md"
    files.write(file, claims.markdown(found))
    if as_json:
        print(json.dumps({"claims": [claims.content(one) for one in found], "file": str(file)}, indent=1))
        return
    _, head, rows = claims.section(found)
    print_table(head, rows)
    print(file)


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A folder of results, or of records.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    gate: Annotated[bool, typer.Option("--gate", help="Exit 1 where B is worse by more than measured noise.")] = False,
    repeats: Annotated[list[Path] | None, typer.Option(help="Results of A's cells run again, for the noise.")] = None,
    max_quality_drop: Annotated[float | None, typer.Option(min=0, help="Points of test, not the noise.")] = None,
    max_slowdown: Annotated[float | None, typer.Option(min=0, help="Per cent of tokens/s, not the noise.")] = None,
    max_memory_growth: Annotated[float | None, typer.Option(min=0, help="Per cent of peaks, not the noise.")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Cells may lack or fail in B.")] = False,
    every_row: Annotated[bool, typer.Option("--all", help="Show the rows that did not move, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two result folders: what moved in quality, speed and memory beyond noise, and why it may have."""
    from bench.cli.diff import Gating, command

    gating = Gating(repeats or [], max_quality_drop, max_slowdown, max_memory_growth, allow_missing)
    if not gate and gating != Gating([]):
        fail("command line: --repeats, --max-... and --allow-missing: expected --gate with them")
    raise typer.Exit(command(first, second, gating if gate else None, every_row, as_json))


def landscape(
    results: Annotated[Path, typer.Argument(help="The folder of records.")] = Path("results"),
    out: Annotated[Path | None, typer.Option(help="Where the figures go; default: into RESULTS.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the loss surfaces that cells with a `landscape` have in their records, methods side by side."""
    from bench.board.sections.surfaces import scalars, sheets, shown

    found = sheets(read(results))
    if not found:
        fail(f"{results}: no record has a landscape, expected cells run with `landscape: {{}}` in their matrix")
    from bench.board.figures import figures  # with matplotlib

    written = figures.write(found, out or results)
    head, rows = scalars(found)
    if as_json:
        lines = [dict(zip(head, row, strict=True)) for row in rows]
        print(json.dumps({"surfaces": lines, "files": [str(file) for file in written]}, indent=1))
        return
    print_table(head, [[shown(cell) for cell in row] for row in rows])
    print(*written, sep="\n")


def kernels(
    results: ResultsOption = Path("results"),
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: the GPU, if there is one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the kernels of the perturbations against float64 and time them against eager PyTorch."""
    from bench.cli.kernels import command

    raise typer.Exit(command(results, device, as_json))


class Listing(str, Enum):
    methods = "methods"
    backbones = "backbones"
    tasks = "tasks"
    protocols = "protocols"
    regularizers = "regularizers"
    kernels = "kernels"
    zero = "zero"
    matrices = "matrices"


def list_(what: Listing, as_json: JsonOption = False) -> None:
    """List what a matrix may name."""
    from bench.cli.listing import listing

    head, rows = listing(what.value)
    if as_json:
        print(json.dumps([dict(zip(head, row, strict=True)) for row in rows], indent=1))
        return
    print_table(head, rows)
