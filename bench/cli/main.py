"""PromptZero: run a matrix of tuning methods with deepspeed, and read what came of it."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from bench import __version__
from bench.cli.commands import reading, running
from bench.cli.terminal import fail
from bench.core.settings import InputError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
for command in (running.run, running.preflight, running.doctor, running.node, running.plan, running.expand):
    app.command()(command)
for command in (reading.board, reading.claims, reading.diff, reading.landscape, reading.kernels):
    app.command()(command)
app.command("list")(reading.list_)


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
