"""PromptZero: run a matrix of tuning methods with deepspeed, and read what came of it."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from bench import __version__
from bench.cli.commands import reading, running
from bench.cli.terminal import fail
from bench.core.settings import InputError, Problem

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
for command in (running.run, running.preflight, running.doctor, running.node_agent, running.plan, running.expand):
    app.command()(command)
for command in (reading.board, reading.claims, reading.diff, reading.landscape, reading.kernels):
    app.command()(command)
app.command("list")(reading.list_)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"promptzero {__version__}")
        raise typer.Exit()


# words of the command line before version 0.2, and what they are called now
RENAMED = {"--dry": "--dry-run", "--limit": "--max-cells", "node": "node-agent"}


def refuse_old_names(words: Sequence[str]) -> None:
    """InputError names the new word for an old one."""
    for place, word in enumerate(words):
        option = word.partition("=")[0]
        if option in RENAMED and (option.startswith("--") or place == 0):
            raise InputError("command line", [Problem(option, f"is called {RENAMED[option]} now")])


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a sign of ours is no failure
    try:
        refuse_old_names(sys.argv[1:])
        app()
    except InputError as error:
        fail(str(error))
