"""What a host is asked, and what it answers: one JSON object each way."""

from __future__ import annotations

from bench.cluster.timeouts import Timeouts
from bench.core.settings import Settings

FOLDERS = ("results", "BENCH_CACHE", "HF_HOME")  # each may be shared between hosts; results must be

CHOOSING = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")


class Request(Settings):
    results: str  # absolute path
    token: str  # a file `.doctor-<token>` with this in it was written into those of FOLDERS that are here
    reply: str  # the same of what the asked host writes into those in which it finds it
    variables: dict[str, str]  # that `bench run` would give a rank; what is secret is replaced
    others: dict[str, str]  # the other hosts and their addresses
    timeouts: Timeouts


class Gpu(Settings):
    name: str
    total_bytes: int | None
    free_bytes: int | None
    processes: tuple[str, ...] = ()  # names of those that use it


class Folder(Settings):
    path: str
    seen: bool  # the token that was written where `bench doctor` runs
    problem: str | None = None  # why it cannot be used
    free_bytes: int | None = None


class Facts(Settings):
    versions: dict[str, str | None]  # of python and packages; None: not installed
    code: str  # hash of all files of the package
    commit: str | None
    dirty: bool | None
    cores: int  # that this process may use
    memory_bytes: int  # available
    shared_memory_bytes: int | None  # free in /dev/shm
    gpus: tuple[Gpu, ...] | None  # that may be used; None: no nvidia-smi here
    gpu_problem: str | None = None  # what nvidia-smi said instead
    folders: dict[str, Folder]  # by FOLDERS
    data_folder: str | None  # BENCH_DATA
    data: str | None  # hash of names and sizes in it; None: no such folder
    interfaces: dict[str, tuple[str, ...]]  # that are up, and their addresses
    chosen_interfaces: dict[str, str]  # of CHOOSING, as far as they are set
    own_name: str
    own_addresses: tuple[str, ...]  # what it resolves to here
    routes: dict[str, str | None]  # other host -> the interface that leads there
    tools: dict[str, str | None]  # where they are
    offline: bool  # HF_HUB_OFFLINE
    hub: str | None  # why the Hugging Face hub is not reached; None: it is, or nobody asked
    hub_token: bool  # whether HF_TOKEN is set
    port: int  # that is free
