"""What options of several commands are, and exit statuses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cluster.timeouts import Timeouts

DONE, SOME_FAILED, INTERRUPTED = 0, 1, 130

MatrixArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped matrix.")]
ResultsOption = Annotated[Path, typer.Option(help="The folder of records and boards.")]
HostfileOption = Annotated[Path | None, typer.Option(help="Hosts and slots, as deepspeed reads them.")]
LauncherOption = Annotated[str, typer.Option(help="What starts ranks on the hosts: pdsh, openmpi, slurm or agents.")]
ArgumentOption = Annotated[list[str] | None, typer.Option(help="Passed on to the launcher as it is.")]
NameOption = Annotated[str | None, typer.Option(help="Of this host in the hostfile; default: its own.")]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        min=1,
        help="Seconds without progress of any rank, after which a cell is ended.",
        show_default=f"{Timeouts.timeout:g}",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For scripts.")]

RESERVE = "2GiB"
ReserveOption = Annotated[
    str, typer.Option(help="Of the GPU's memory, kept for what is not the allocator's: context, NCCL, fragmentation.")
]
