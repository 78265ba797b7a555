"""What of Kubernetes and Kubeflow the manifests of launch/k8s/ use, with the types that their definitions give it.

Whatever is not here is refused, so that a field of a manifest is one that somebody has looked up. From the types that
the CRDs are generated from: kubeflow/mpi-operator pkg/apis/kubeflow/v2beta1/types.go (0.5 for launcherCreationPolicy),
kubeflow/trainer pkg/apis/trainer/v1alpha1/{trainjob,trainingruntime}_types.go, kubernetes-sigs/jobset
api/jobset/v1alpha2/jobset_types.go, and the API of Kubernetes itself, v1.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Quantity = int | Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|[kMGTP]i?)?$")]
Count = Annotated[int, Field(ge=1, strict=True)]
Words = list[Annotated[str, Field(strict=True)]]  # a number there is an error in Kubernetes


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, frozen=True)


class Metadata(Part):
    name: Name | None = None
    labels: dict[str, str] = {}


class EnvVar(Part):
    name: str
    value: Annotated[str, Field(strict=True)]


class Resources(Part):
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class Port(Part):
    port: Count


class Probe(Part):
    tcp_socket: Port
    initial_delay_seconds: Count


class SecurityContext(Part):
    """Of a container."""

    run_as_user: int


class PodSecurityContext(Part):
    fs_group: int


class VolumeMount(Part):
    name: Name
    mount_path: str


class ClaimSource(Part):
    claim_name: Name


class EmptyDir(Part):
    medium: Literal["Memory"]


class Volume(Part):
    name: Name
    persistent_volume_claim: ClaimSource | None = None
    empty_dir: EmptyDir | None = None


class Container(Part):
    name: Name
    image: str
    command: Words = []
    args: Words = []
    env: list[EnvVar] = []
    security_context: SecurityContext
    readiness_probe: Probe | None = None
    resources: Resources = Resources()
    volume_mounts: list[VolumeMount] = []


class PodSpec(Part):
    security_context: PodSecurityContext
    containers: list[Container]
    volumes: list[Volume] = []


class PodTemplate(Part):
    metadata: Metadata = Metadata()
    spec: PodSpec


class Object(Part):
    metadata: Metadata


class ClaimSpec(Part):
    access_modes: list[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]]
    storage_class_name: str
    resources: Resources


class Claim(Object):
    api_version: Literal["v1"]
    kind: Literal["PersistentVolumeClaim"]
    spec: ClaimSpec


class Replicas(Part):
    replicas: Count
    restart_policy: Literal["Never", "OnFailure", "Always", "ExitCode"]
    template: PodTemplate


class ReplicaSpecs(Part):
    model_config = ConfigDict(alias_generator=lambda name: name.capitalize())
    launcher: Replicas
    worker: Replicas


class RunPolicy(Part):
    clean_pod_policy: Literal["All", "Running", "None"]
    backoff_limit: int


class MPIJobSpec(Part):
    slots_per_worker: Count
    launcher_creation_policy: Literal["AtStartup", "WaitForWorkersReady"]
    ssh_auth_mount_path: str = Field(alias="sshAuthMountPath")
    run_policy: RunPolicy
    mpi_replica_specs: ReplicaSpecs


class MPIJob(Object):
    api_version: Literal["kubeflow.org/v2beta1"]
    kind: Literal["MPIJob"]
    spec: MPIJobSpec


class MPI(Part):
    num_proc_per_node: Count
    mpi_implementation: Literal["OpenMPI"]  # the only one Trainer has
    ssh_auth_mount_path: str = Field(alias="sshAuthMountPath")
    run_launcher_as_node: bool


class MLPolicy(Part):
    num_nodes: Count
    mpi: MPI


class Network(Part):
    publish_not_ready_addresses: bool


class SuccessPolicy(Part):
    operator: Literal["All", "Any"]
    target_replicated_jobs: list[Name]


class DependsOn(Part):
    name: Name
    status: Literal["Ready", "Complete"]


class JobSpec(Part):
    template: PodTemplate


class JobTemplate(Part):
    metadata: Metadata = Metadata()
    spec: JobSpec


class ReplicatedJob(Part):
    name: Name
    depends_on: list[DependsOn] = []
    template: JobTemplate


class JobSetSpec(Part):
    network: Network
    success_policy: SuccessPolicy
    replicated_jobs: list[ReplicatedJob]


class JobSetTemplate(Part):
    spec: JobSetSpec


class RuntimeSpec(Part):
    ml_policy: MLPolicy
    template: JobSetTemplate


class TrainingRuntime(Object):
    api_version: Literal["trainer.kubeflow.org/v1alpha1"]
    kind: Literal["TrainingRuntime"]
    spec: RuntimeSpec


class RuntimeRef(Part):
    api_group: Literal["trainer.kubeflow.org"]
    kind: Literal["TrainingRuntime", "ClusterTrainingRuntime"]
    name: Name


class Trainer(Part):
    num_nodes: Count
    num_proc_per_node: Count
    command: Words
    args: Words
    env: list[EnvVar]


class TrainJobSpec(Part):
    runtime_ref: RuntimeRef
    trainer: Trainer


class TrainJob(Object):
    api_version: Literal["trainer.kubeflow.org/v1alpha1"]
    kind: Literal["TrainJob"]
    spec: TrainJobSpec


KINDS: dict[str, type[Object]] = {one.__name__: one for one in (MPIJob, TrainingRuntime, TrainJob)}
KINDS["PersistentVolumeClaim"] = Claim
