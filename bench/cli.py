"""The command `bench`: parses, calls, prints. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import io
import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import __version__
from bench.settings import InputError
from bench.terminal import budget_of, fail, read, read_cards, show

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
console = Console(soft_wrap=True)

DONE, SOME_FAILED, INTERRUPTED = 0, 1, 130

MatrixArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped matrix.")]
ResultsOption = Annotated[Path, typer.Option(help="The folder of records and boards.")]
HostfileOption = Annotated[Path | None, typer.Option(help="Hosts and slots, as deepspeed reads them.")]
LauncherOption = Annotated[str, typer.Option(help="What starts ranks on the hosts: see `bench list launchers`.")]
ArgumentOption = Annotated[list[str] | None, typer.Option(help="Passed on to the launcher as it is.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For scripts.")]

RESERVE = "2GiB"
ReserveOption = Annotated[
    str, typer.Option(help="Of the GPU's memory, kept for what is not the allocator's: context, NCCL, fragmentation.")
]


class Listing(str, Enum):
    methods = "methods"
    backbones = "backbones"
    tasks = "tasks"
    protocols = "protocols"
    regularizers = "regularizers"
    kernels = "kernels"
    zero = "zero"
    matrices = "matrices"


@app.command()
def run(
    matrix: MatrixArgument,
    results: ResultsOption = Path("results"),
    hostfile: HostfileOption = None,
    retry: Annotated[list[str] | None, typer.Option(help="Run cells again whose record has this status.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many cells.")] = None,
    launcher: LauncherOption = "pdsh",
    launcher_argument: ArgumentOption = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds without progress of any rank, after which a cell is ended.")
    ] = 600,
    preflight: Annotated[
        bool, typer.Option("--preflight", help="Check gradients first; what fails is not run.")
    ] = False,
    predict: Annotated[
        bool, typer.Option("--predict", help="Predict each cell's memory first, for the boards.")
    ] = False,
    skip_oom: Annotated[
        bool, typer.Option("--skip-oom", help="Predict, and record what cannot fit without running it.")
    ] = False,
    gpu_memory: Annotated[
        str | None, typer.Option(help="Of a GPU, for --skip-oom; default: of this machine's first.")
    ] = None,
    reserve: ReserveOption = RESERVE,
    dry: Annotated[bool, typer.Option("--dry", help="Print the commands, start nothing.")] = False,
) -> None:
    """Run the cells of a matrix that have no record yet, then regenerate the boards."""
    from bench.processes import stop_on_signals
    from bench.session import Session, Where

    stop_on_signals()
    if gpu_memory is not None and not skip_oom:
        fail("command line: --gpu-memory: expected --skip-oom with it")
    budget = budget_of(gpu_memory, reserve, remote=hostfile is not None) if skip_oom else None
    where = Where(hostfile, tuple(launcher_argument or ()), launcher, timeout)
    session = Session(console, results, where)
    try:
        raise typer.Exit(session.run(matrix, retry or [], limit, dry, preflight, predict, budget))
    except KeyboardInterrupt:
        print("bench: interrupted; finished cells keep their records", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def preflight(
    matrix: MatrixArgument,
    results: ResultsOption = Path("results"),
    hostfile: HostfileOption = None,
    launcher: LauncherOption = "pdsh",
    launcher_argument: ArgumentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the gradients of each method and ZeRO configuration of a matrix with one process of plain PyTorch."""
    from bench.preflight.session import command
    from bench.processes import stop_on_signals
    from bench.session import Where

    stop_on_signals()
    try:
        where = Where(hostfile, tuple(launcher_argument or ()), launcher)
        raise typer.Exit(command(matrix, where.launch(results), as_json))
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def plan(
    matrix: MatrixArgument,
    world_size: Annotated[list[int] | None, typer.Option(min=1, help="Ranks, in place of the matrix's own.")] = None,
    gpu_memory: Annotated[str | None, typer.Option(help="Of a GPU, e.g. 80GiB: says what fits.")] = None,
    reserve: ReserveOption = RESERVE,
    as_json: JsonOption = False,
) -> None:
    """Predict the memory of each rank by owner, before anything is launched: without a GPU or weights."""
    from bench.predict import session
    from bench.predict.plan import content, errors, table

    budget = None if gpu_memory is None else budget_of(gpu_memory, reserve)
    entries = session.plan(matrix, world_size or [])
    if as_json:
        print(json.dumps([content(entry, entries, budget) for entry in entries], indent=1))
    else:
        show(*table(entries, budget))
    for line in errors(entries):
        print(f"not predicted: {line}", file=sys.stderr)
    raise typer.Exit(SOME_FAILED if errors(entries) else DONE)


@app.command()
def expand(matrix: MatrixArgument, as_json: JsonOption = False) -> None:
    """List the cells of a matrix."""
    from bench.matrix import load

    found = load(matrix).expansion()
    cells = found.every()
    if as_json:
        print(json.dumps([{"name": cell.name, **cell.content()} for cell in cells], indent=1))
        return
    for cell in cells:
        print(cell.name)
    waiting = len(cells) - len(found.first())
    note = f", {waiting} of them with the hyper-parameters that dev will choose; here with the first" if waiting else ""
    print(f"{len(cells)} cells{note}", file=sys.stderr)


@app.command()
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
        from bench.board.plots import write  # with matplotlib

        figures, missing = write(contents, (out or results) / "plots")
        written += figures
    if as_json:
        print(json.dumps({"records": len(contents.records), "files": [str(file) for file in written]}))
    else:
        print(f"{len(contents.records)} records -> {', '.join(map(str, written))}")
    for line in missing:
        print(line, file=sys.stderr)


@app.command()
def claims(
    results: Annotated[Path, typer.Argument(help="The folder of records.")] = Path("results"),
    stated: Annotated[Path | None, typer.Option("--claims", help="A YAML file; default: the papers' claims.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where claims.md goes; default: into RESULTS.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the records make of the papers' claims: supported, contradicted, or not decided yet."""
    from bench import files
    from bench.board import claims

    found = claims.verdicts(claims.load(stated), read(results))
    file = (out or results) / "claims.md"
    files.write(file, claims.markdown(found))
    if as_json:
        print(json.dumps({"claims": [claims.content(one) for one in found], "file": str(file)}, indent=1))
        return
    _, head, rows = claims.section(found)
    show(head, rows)
    print(file)


@app.command()
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
    from bench.board.diff.session import Gating, command

    gating = Gating(repeats or [], max_quality_drop, max_slowdown, max_memory_growth, allow_missing)
    if not gate and gating != Gating([]):
        fail("command line: --repeats, --max-... and --allow-missing: expected --gate with them")
    raise typer.Exit(command(first, second, gating if gate else None, every_row, as_json))


@app.command()
def landscape(
    results: Annotated[Path, typer.Argument(help="The folder of records.")] = Path("results"),
    out: Annotated[Path | None, typer.Option(help="Where the figures go; default: into RESULTS.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the loss surfaces that cells with a `landscape` have in their records, methods side by side."""
    from bench.board.surfaces import scalars, sheets, shown

    found = sheets(read(results))
    if not found:
        fail(f"{results}: no record has a landscape, expected cells run with `landscape: {{}}` in their matrix")
    from bench.board import figures  # with matplotlib

    written = figures.write(found, out or results)
    head, rows = scalars(found)
    if as_json:
        lines = [dict(zip(head, row, strict=True)) for row in rows]
        print(json.dumps({"surfaces": lines, "files": [str(file) for file in written]}, indent=1))
        return
    show(head, [[shown(cell) for cell in row] for row in rows])
    print(*written, sep="\n")


@app.command()
def kernels(
    results: ResultsOption = Path("results"),
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: the GPU, if there is one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the kernels of the perturbations against float64 and time them against eager PyTorch."""
    from bench.kernels.session import command

    raise typer.Exit(command(results, device, as_json))


@app.command()
def doctor(
    hostfile: HostfileOption = None, results: ResultsOption = Path("results"), as_json: JsonOption = False
) -> None:
    """Say whether this machine, or every host of a hostfile, is fit to run, and what to do where it is not."""
    from bench.doctor.session import command

    raise typer.Exit(command(hostfile, results, as_json))


@app.command("list")
def list_(what: Listing, as_json: JsonOption = False) -> None:
    """List what a matrix may name."""
    from bench.listing import listing

    head, rows = listing(what.value)
    if as_json:
        print(json.dumps([dict(zip(head, row, strict=True)) for row in rows], indent=1))
        return
    show(head, rows)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"promptzero {__version__}")
        raise typer.Exit()


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a sign of ours is no failure
    try:
        app()
    except InputError as error:
        fail(str(error))
