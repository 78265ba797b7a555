"""A stand-in for srun inside an allocation: takes the arguments that srun of Slurm 22.05 takes, starts the tasks here.

What it refuses, it refuses in srun's words, with its exit status. The allocation is SLURM_JOB_NODELIST, with commas.
Options are those that `bench` may need; tests compare them with the real srun's where there is one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

# option -> the values it takes, None for any; a set with "" takes none
OPTIONS: dict[str, set[str] | None] = {
    "--overlap": {""},
    "--overcommit": {""},
    "--cpu-bind": {"none", "cores", "rank"},
    "--mpi": {"none", "pmi2", "pmix"},
    "--export": {"ALL", "NONE"},
    "--kill-on-bad-exit": {"0", "1"},
    "--distribution": {"arbitrary", "block", "cyclic"},
    "--immediate": None,
    "--nodes": None,
    "--ntasks": None,
    "--nodelist": None,
    "--label": {""},
    "--unbuffered": {""},
}


def fail(message: str, status: int = 1) -> None:
    print(f"srun: error: {message}", file=sys.stderr)
    sys.exit(status)


def parsed(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    given: dict[str, str] = {}
    while arguments and arguments[0].startswith("-"):
        name, _, value = arguments.pop(0).partition("=")
        if name not in OPTIONS:
            print(f"srun: unrecognized option '{name}'\nTry \"srun --help\" for more information", file=sys.stderr)
            sys.exit(255)
        taken = OPTIONS[name]
        if taken is not None and value not in taken:
            fail(f"Invalid {name} specification: {value}", 255)
        given[name] = value
    return given, arguments


def main() -> None:
    given, command = parsed(sys.argv[1:])
    if not command:
        fail("No command given to execute.")
    if "SLURM_JOB_ID" not in os.environ:
        fail("this would ask for an allocation of its own")
    if "SLURM_EXCLUSIVE" in os.environ and "--overlap" in given:
        fail("Invalid --exclusive specification", 255)
    if "SLURM_GPUS_PER_TASK" in os.environ:
        fail("Unable to create step for job: Invalid generic resource (gres) specification")
    allocated = os.environ["SLURM_JOB_NODELIST"].split(",")
    hosts = given["--nodelist"].split(",")
    if not set(hosts) <= set(allocated):
        fail("Unable to create step for job: Requested node configuration is not available")
    if int(given["--nodes"]) != len(set(hosts)) or int(given["--ntasks"]) != len(hosts):
        fail("the stand-in wants --nodes and --ntasks as many as --nodelist names")
    if len(hosts) > 1 and given.get("--distribution") != "arbitrary":
        fail("the stand-in wants --distribution=arbitrary")
    tasks: list[subprocess.Popen[bytes]] = []
    for rank, host in enumerate(hosts):
        own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(hosts[:rank].count(host)), "SLURMD_NODENAME": host}
        tasks.append(subprocess.Popen(command, env={**os.environ, **own}))

    def end(*_: object) -> None:
        for task in tasks:
            task.kill()

    signal.signal(signal.SIGTERM, end)
    while None in (codes := [task.poll() for task in tasks]):
        if given.get("--kill-on-bad-exit") == "1" and any(codes):
            end()
        time.sleep(0.1)
    sys.exit(max(abs(code or 0) for code in codes))


if __name__ == "__main__":
    main()
