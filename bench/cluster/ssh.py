"""Commands on other hosts through ssh, with the options that pdsh would give it.

What makes pdsh reach a host, PDSH_SSH_ARGS and PDSH_SSH_ARGS_APPEND included, makes this reach it. Nothing asks for a
password.
"""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from bench.cluster.network_interfaces import addresses_of, is_here, is_loopback, own_address
from bench.cluster.timeouts import Timeouts

# first, since the first value that ssh gets counts; ssh takes whole seconds, and what it starts has a limit of its own
NO_QUESTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=5")
PDSH_DEFAULT = "-2 -a -x %h"  # pdsh leaves out its -l%u where the user is the same, for ssh's own configuration


@dataclass(frozen=True)
class Done:
    code: int | None  # None: no answer in time; 255: ssh itself failed, too
    output: str
    error: str


def ssh_command(host: str) -> list[str]:
    """What pdsh would start for `host`, before the command: it splits at blanks and puts what is appended first."""
    words = os.environ.get("PDSH_SSH_ARGS", PDSH_DEFAULT).split()
    if not any("%h" in word for word in words):
        words.append("%h")
    words = os.environ.get("PDSH_SSH_ARGS_APPEND", "").split() + words
    user = getpass.getuser() if any("%u" in word for word in words) else ""  # fails where a user has no name
    known = {"%h": host, "%u": user, "%%": "%"}
    return ["ssh", *NO_QUESTIONS, *(re.sub("%[hu%]", lambda found: known[found[0]], word) for word in words)]


def run_on(host: str, command: Sequence[str], seconds: float, stdin: str = "") -> Done:
    """`command` on `host` by ssh, for at most so long; what is left of it here then is killed. 127: no ssh here."""
    try:
        return run_here([*ssh_command(host), shlex.join(command)], seconds, stdin)
    except FileNotFoundError as error:
        return Done(127, "", str(error))


def run_here(command: Sequence[str], seconds: float, stdin: str = "") -> Done:
    """`command` on this machine, for at most so long. OSError when it cannot be started."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        given.write(stdin.encode())
        given.seek(0)
        # files, since pipes stay open as long as an ssh that others share
        process = subprocess.Popen(list(command), stdin=given, stdout=out, stderr=error, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        out.seek(0)
        error.seek(0)
        return Done(code, out.read().decode(errors="replace"), error.read().decode(errors="replace"))


def reachable(host: str, timeouts: Timeouts) -> bool:
    """Whether `host` runs commands of ours without a password; this machine does."""
    return is_here(host, timeouts.resolve) or run_on(host, ["true"], timeouts.reach).code == 0


def address_of(host: str, timeouts: Timeouts) -> str:
    """Where the other hosts reach `host`: what its name resolves to.

    If that is loopback, as the own name often is, an address of this machine's: of the interface that
    NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME names, else of the default route, else the first. What only ssh's
    configuration knows is asked itself. OSError when there is none.
    """
    found = addresses_of(host, timeouts.resolve)
    if outer := [one for one in found if not is_loopback(one)]:
        return outer[0]
    if found or is_here(host, timeouts.resolve):
        return own_address()
    for word in run_on(host, ["hostname", "-I"], timeouts.reach).output.split():
        with contextlib.suppress(ValueError):  # what a shell prints at its start
            return str(ipaddress.ip_address(word))
    raise OSError(f"{host}: its name resolves to no address, and ssh does not reach it either")
