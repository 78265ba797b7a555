"""The commands that run cells, and those that look ahead."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bench.cli.commands.options import (
    DONE,
    INTERRUPTED,
    RESERVE,
    SOME_FAILED,
    ArgumentOption,
    HostfileOption,
    JsonOption,
    LauncherOption,
    MatrixArgument,
    NameOption,
    ReserveOption,
    ResultsOption,
    TimeoutOption,
)
from bench.cli.terminal import budget_of, fail, print_table
from bench.cluster.timeouts import Timeouts, chosen

if TYPE_CHECKING:
    from bench.runner.launch import Launch


def run(
    matrix: MatrixArgument,
    results: ResultsOption = Path("results"),
    hostfile: HostfileOption = None,
    retry: Annotated[
        list[str] | None, typer.Option(help="Run cells again whose record has this status; or unreadable.")
    ] = None,
    max_cells: Annotated[int | None, typer.Option(min=1, help="Run at most so many cells.")] = None,
    launcher: LauncherOption = "pdsh",
    launcher_argument: ArgumentOption = None,
    timeout: TimeoutOption = None,
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, start nothing.")] = False,
) -> None:
    """Run the cells of a matrix that have no record yet, then regenerate the boards."""
    timeouts = chosen(os.environ, timeout)
    from bench.cli.run import RunOptions, Session
    from bench.cluster.processes import stop_on_signals

    stop_on_signals()
    if gpu_memory is not None and not skip_oom:
        fail("command line: --gpu-memory: expected --skip-oom with it")
    budget = budget_of(gpu_memory, reserve, remote=hostfile is not None or launcher != "pdsh") if skip_oom else None
    options = RunOptions(matrix, tuple(retry or ()), max_cells, dry_run, preflight, predict, budget)
    launch = launch_of(results, hostfile, launcher, launcher_argument, timeouts)
    try:
        raise typer.Exit(Session(Console(soft_wrap=True), options, launch).run())
    except KeyboardInterrupt:
        print("bench: interrupted; finished cells keep their records", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def launch_of(
    results: Path, hostfile: Path | None, launcher: str, arguments: list[str] | None, timeouts: Timeouts
) -> Launch:
    """InputError when there is no launcher of that name."""
    from bench.cluster import launchers
    from bench.runner.launch import Launch
    from bench.training import WORKER

    started_by = launchers.chosen(launcher, results)
    return Launch(results, hostfile, tuple(arguments or ()), started_by, timeouts, worker=WORKER)


def preflight(
    matrix: MatrixArgument,
    results: ResultsOption = Path("results"),
    hostfile: HostfileOption = None,
    launcher: LauncherOption = "pdsh",
    launcher_argument: ArgumentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the gradients of each method and ZeRO configuration of a matrix with one process of plain PyTorch."""
    timeouts = chosen(os.environ)
    from bench.cli.preflight import command
    from bench.cluster.processes import stop_on_signals

    stop_on_signals()
    try:
        launch = launch_of(results, hostfile, launcher, launcher_argument, timeouts)
        raise typer.Exit(command(matrix, launch, as_json))
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def node_agent(results: ResultsOption = Path("results"), name: NameOption = None) -> None:
    """Start ranks on this host for runs with `--launcher agents`, until interrupted."""
    from bench.cluster.launchers.node import command

    raise typer.Exit(command(results, name, chosen(os.environ)))


def doctor(
    hostfile: HostfileOption = None, results: ResultsOption = Path("results"), as_json: JsonOption = False
) -> None:
    """Say whether this machine, or every host of a hostfile, is fit to run, and what to do where it is not."""
    from bench.cli.doctor import command

    raise typer.Exit(command(hostfile, results, chosen(os.environ), as_json))


def plan(
    matrix: MatrixArgument,
    world_size: Annotated[list[int] | None, typer.Option(min=1, help="Ranks, in place of the matrix's own.")] = None,
    gpu_memory: Annotated[str | None, typer.Option(help="Of a GPU, e.g. 80GiB: says what fits.")] = None,
    reserve: ReserveOption = RESERVE,
    as_json: JsonOption = False,
) -> None:
    """Predict the memory of each rank by owner, before anything is launched: without a GPU or weights."""
    from bench.checks.plan import predict
    from bench.checks.plan.plan import content, errors, table

    budget = None if gpu_memory is None else budget_of(gpu_memory, reserve)
    entries = predict.plan(matrix, world_size or [])
    if as_json:
        print(json.dumps([content(entry, entries, budget) for entry in entries], indent=1))
    else:
        print_table(*table(entries, budget))
    for line in errors(entries):
        print(f"not predicted: {line}", file=sys.stderr)
    raise typer.Exit(SOME_FAILED if errors(entries) else DONE)


def expand(matrix: MatrixArgument, as_json: JsonOption = False) -> None:
    """List the cells of a matrix."""
    from bench.matrix.matrix import load

    found = load(matrix).expansion()
    cells = found.all_cells()
    if as_json:
        print(json.dumps([{"name": cell.name, **cell.content()} for cell in cells], indent=1))
        return
    for cell in cells:
        print(cell.name)
    waiting = len(cells) - len(found.runnable_now())
    note = f", {waiting} of them with the hyper-parameters that dev will choose; here with the first" if waiting else ""
    print(f"{len(cells)} cells{note}", file=sys.stderr)
