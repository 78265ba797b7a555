"""The manifests of launch/k8s/: fields that there are, numbers that agree, and a command that `bench` takes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from places import ROOT
from pydantic import ValidationError
from runs import call

FOLDER = ROOT / "launch" / "k8s"
DOCUMENTS = [(file.name, one) for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())]


def of_kind(kind: str) -> Any:
    (found,) = [kubernetes.KINDS[kind].model_validate(one) for _, one in DOCUMENTS if one["kind"] == kind]
    return found


def test_every_kind_is_there_once() -> None:
    assert sorted(one["kind"] for _, one in DOCUMENTS) == sorted(kubernetes.KINDS)


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """All of a document, the outermost first; not those whose keys are the user's."""
    if isinstance(value, dict):
        yield value
        for key, one in value.items():
            yield from () if key in ("labels", "limits", "requests") else mappings(one)
    elif isinstance(value, list):
        for one in value:
            yield from mappings(one)


@pytest.mark.parametrize(("file", "document"), DOCUMENTS)
def test_no_field_is_invented(file: str, document: dict[str, Any]) -> None:
    """Each is valid, and is not any more with an unknown field at any place of it."""
    kind = kubernetes.KINDS[document["kind"]]
    kind.model_validate(document)
    for number, _ in enumerate(list(mappings(document))):
        spoiled = copy.deepcopy(document)
        list(mappings(spoiled))[number]["replicaz"] = 1
        with pytest.raises(ValidationError, match="replicaz"):
            kind.model_validate(spoiled)


def gpus(container: kubernetes.Container) -> int:
    return int(container.resources.limits.get("nvidia.com/gpu", 0))


def pods() -> dict[str, tuple[kubernetes.PodSpec, kubernetes.PodSpec]]:
    """By file, the launcher's pod and the workers'."""
    replicas = of_kind("MPIJob").spec.mpi_replica_specs
    jobs = {
        job.name: job.template.spec.template.spec
        for job in of_kind("TrainingRuntime").spec.template.spec.replicated_jobs
    }
    return {
        "mpijob.yaml": (replicas.launcher.template.spec, replicas.worker.template.spec),
        "trainjob.yaml": (jobs["launcher"], jobs["node"]),
    }


# by file: workers, slots of each, the command of the launcher
def runs() -> dict[str, tuple[int, int, list[str]]]:
    job, trainer = of_kind("MPIJob").spec, of_kind("TrainJob").spec.trainer
    launcher = pods()["mpijob.yaml"][0].containers[0]
    return {
        "mpijob.yaml": (job.mpi_replica_specs.worker.replicas, job.slots_per_worker, launcher.command + launcher.args),
        "trainjob.yaml": (trainer.num_nodes, trainer.num_proc_per_node, trainer.command + trainer.args),
    }


@pytest.mark.parametrize("file", ["mpijob.yaml", "trainjob.yaml"])
def test_numbers_agree(file: str) -> None:
    _, slots, command = runs()[file]
    launcher, worker = pods()[file]
    assert gpus(worker.containers[0]) == slots and gpus(launcher.containers[0]) == 0
    claim, results = of_kind("PersistentVolumeClaim"), command[command.index("--results") + 1]
    assert claim.spec.access_modes == ["ReadWriteMany"]
    for pod in (launcher, worker):
        volumes = {volume.name: volume for volume in pod.volumes}
        mounts = {mount.mount_path: volumes[mount.name] for mount in pod.containers[0].volume_mounts}
        assert mounts[results].persistent_volume_claim.claim_name == claim.metadata.name
        assert len({container.image for container in pod.containers}) == 1
    assert worker.containers[0].readiness_probe.tcp_socket.port == 2222, "of the sshd_config that it is started with"


def test_the_train_job_is_of_its_runtime() -> None:
    runtime, job = of_kind("TrainingRuntime"), of_kind("TrainJob").spec
    policy = runtime.spec.ml_policy
    assert (job.runtime_ref.kind, job.runtime_ref.name) == (runtime.kind, runtime.metadata.name)
    assert (job.trainer.num_nodes, job.trainer.num_proc_per_node) == (policy.num_nodes, policy.mpi.num_proc_per_node)
    names = [one.name for one in runtime.spec.template.spec.replicated_jobs]
    assert names == ["node", "launcher"], "the names by which Trainer knows them"
    assert runtime.spec.template.spec.success_policy.target_replicated_jobs == ["launcher"]


@pytest.mark.parametrize("file", ["mpijob.yaml", "trainjob.yaml"])
def test_bench_takes_the_command(file: str, write_matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a matrix as wide as the job, and a hostfile as its operator writes it for so many workers."""
    workers, slots, (program, *command) = runs()[file]
    hosts = [f"127.0.0.{number}" for number in range(2, 2 + workers)]  # names of pods resolve in their cluster only
    (tmp_path / "hostfile").write_text("".join(f"{host} slots={slots}\n" for host in hosts))
    for name in ("mpirun", "ompi_info"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    world = workers * slots
    matrix = write_matrix({"ranks": world, "batch_size": world, "regime": {"per_class": world}})
    there = {"study": matrix, "/results": tmp_path / "r", "/etc/mpi/hostfile": tmp_path / "hostfile"}
    done = call(*(there.get(word, word) for word in command), "--dry-run")
    assert program == "bench" and done.returncode == 0, done.stderr
    assert "1 cells: " in done.stdout and "--launcher openmpi" in done.stdout
