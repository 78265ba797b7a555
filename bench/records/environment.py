"""Where a cell ran: commit, versions, hosts, accelerator."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib import metadata

from bench.core import files
from bench.records.record import Environment

PACKAGES = ("promptzero", "torch", "deepspeed", "transformers", "peft", "tokenizers", "numpy")


@functools.cache
def commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout this package runs from, and whether it has changes; (None, None) without one."""
    if not (files.CHECKOUT / ".git").exists():
        return None, None
    try:
        head = _git("rev-parse", "HEAD")
        return head, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):  # no git, or not a checkout git can read
        return None, None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(files.CHECKOUT), *arguments], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


def describe(
    hosts: list[str], accelerator: str, threads: int, launcher: str, kernels: str | None = None
) -> Environment:
    head, dirty = commit()
    versions = {name: metadata.version(name) for name in PACKAGES}
    return Environment(
        commit=head,
        dirty=dirty,
        versions={"python": platform.python_version(), **versions},
        hosts=tuple(dict.fromkeys(hosts)),
        accelerator=accelerator,
        threads=threads,
        launcher=launcher,
        kernels=kernels,
    )
