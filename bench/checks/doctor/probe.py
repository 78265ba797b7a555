"""What can be known of a host without torch; run as a module, with a Request on stdin and Facts on stdout."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import psutil

from bench.checks.doctor.facts import CHOOSING, Facts, Folder, Request
from bench.checks.doctor.gpus import gpus
from bench.cluster.network_interfaces import addresses_of, interfaces
from bench.core import files
from bench.records import environment

HUB = "https://huggingface.co"
TOOLS = ("ninja", "nvcc", "pdsh", "srun", "mpirun")
CUDA = "/usr/local/cuda"  # where torch looks, too


def main() -> None:
    request = Request.model_validate_json(sys.stdin.read())
    for name, value in request.variables.items():
        os.environ.setdefault(name, value)  # what a host has set itself goes before, as in a run
    print(facts(request).model_dump_json())


def facts(request: Request) -> Facts:
    head, dirty = environment.commit()
    found, problem = gpus(request.timeouts.gpus)
    name = socket.gethostname()
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    return Facts(
        versions={"python": platform.python_version(), **{name: version(name) for name in environment.PACKAGES}},
        code=code(),
        commit=head,
        dirty=dirty,
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=memory(),
        shared_memory_bytes=_free(Path("/dev/shm")),
        gpus=found,
        gpu_problem=problem,
        folders={
            "results": results(Path(request.results), request),
            "BENCH_CACHE": cache(files.cache(), request),
            "HF_HOME": cache(hugging_face_home(), request),
        },
        data_folder=os.environ.get("BENCH_DATA"),
        data=data(os.environ.get("BENCH_DATA")),
        interfaces={name: tuple(addresses) for name, addresses in interfaces().items()},
        chosen_interfaces={name: value for name in CHOOSING if (value := os.environ.get(name))},
        own_name=name,
        own_addresses=tuple(addresses_of(name, request.timeouts.resolve)),
        routes={other: route(address) for other, address in request.others.items()},
        tools=tools(),
        offline=offline,
        hub=None if offline else hub(os.environ.get("HF_ENDPOINT") or HUB, request.timeouts.hub),
        hub_token=bool(os.environ.get("HF_TOKEN")),
        port=free_port(),
    )


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def code() -> str:
    """A hash of every file of Python in this package: a commit says nothing of what was changed since."""
    digest = hashlib.sha256()
    for file in sorted(files.PACKAGE.rglob("*.py")):
        digest.update(f"{file.relative_to(files.PACKAGE)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def memory() -> int:
    """Bytes of host memory that can still be had: the machine's, or less where a control group has a limit."""
    return min([psutil.virtual_memory().available, *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    top = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = top / next((line[4:] for line in lines if line.startswith("0::/")), "")
        for folder in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
                limit = int((folder / "memory.max").read_text())
                yield max(0, limit - int((folder / "memory.current").read_text()))


def results(folder: Path, request: Request) -> Folder:
    """Whether what was written elsewhere is here, and whether files can be made here as records are."""
    found = Folder(path=str(folder), seen=_seen(folder, request.token), free_bytes=_free(folder))
    try:
        _reply(folder, request, stays=found.seen)
    except OSError as error:
        return found.model_copy(update={"problem": error.strerror or str(error)})
    return found


def cache(folder: Path, request: Request) -> Folder:
    """The same of a folder that is made when it is needed."""
    found = Folder(path=str(folder), seen=_seen(folder, request.token), free_bytes=_free(folder))
    writable = os.access(_existing(folder), os.W_OK)
    return found if writable else found.model_copy(update={"problem": "not writable"})


def _seen(folder: Path, token: str) -> bool:
    try:
        return (folder / f".doctor-{token}").read_text() == token
    except (OSError, UnicodeDecodeError):
        return False


def _reply(folder: Path, request: Request, stays: bool) -> None:
    """Written, and named by a link as records and claims are. OSError says what this folder cannot do."""
    part, whole = folder / f".doctor-{request.reply}.part", folder / f".doctor-{request.reply}"
    try:
        part.write_text(request.reply)
        os.link(part, whole)
    finally:
        part.unlink(missing_ok=True)
    if not stays:
        whole.unlink()


def _existing(folder: Path) -> Path:
    return next((one for one in (folder, *folder.parents) if one.is_dir()), Path("/"))


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(_existing(folder)).free
    except OSError:
        return None


def hugging_face_home() -> Path:
    """As huggingface_hub has it."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{base}/huggingface").expanduser()


def data(folder: str | None) -> str | None:
    if not folder or not Path(folder).is_dir():
        return None
    found = sorted((str(file.relative_to(folder)), file.stat().st_size) for file in Path(folder).glob("*/*.*"))
    return hashlib.sha256(repr(found).encode()).hexdigest()[:12]


def route(address: str) -> str | None:
    """The interface that leads to an address; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        source = probe.getsockname()[0]
        return next((name for name, addresses in interfaces().items() if source in addresses), None)
    return None


def tools() -> dict[str, str | None]:
    """Where compilers and launchers are, as a command that ssh starts finds them."""
    found: Mapping[str, str | None] = {name: shutil.which(name) for name in TOOLS}
    compilers = (os.environ.get("CXX") or "", "c++", "g++", "clang++")
    return {
        **found,
        "C++": next(filter(None, map(shutil.which, compilers)), None),
        "nvcc": found["nvcc"] or shutil.which(f"{os.environ.get('CUDA_HOME') or CUDA}/bin/nvcc"),
    }


def hub(url: str, seconds: float) -> str | None:
    """Why the hub does not answer in time; None: it does. Nothing is sent along, no token either."""
    said: list[str | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
            said.append(None)
        except urllib.error.HTTPError as error:
            said.append(None if error.code < 500 else f"it answers {error.code}")
        except (OSError, ValueError) as error:
            said.append(str(getattr(error, "reason", error)))

    thread = threading.Thread(target=ask, daemon=True)  # names have no timeout of their own
    thread.start()
    thread.join(seconds + 0.5)
    return said[0] if said else f"no answer in {seconds:g} s"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    main()
