"""Settings of edged."""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from fedge_edged.amounts import amounts_of
from fedge_edged.capacity import DEFAULT_MAX_PODS
from fedge_edged.pressure import DEFAULT_HARD, parse_thresholds
from fedge_service import EdgeSettings, ServiceSettings


class EdgedSettings(ServiceSettings):
    """``FEDGE_EDGED_<FIELD>``, and what all edge services share."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_EDGED_")

    runtime: str = "cri"
    """Which runtime plugin (entry point group ``fedge.edged.runtimes``) runs the containers."""

    cri_socket: Path = Path("/run/containerd/containerd.sock")
    """Socket of the container runtime."""

    cgroup_parent: str = ""
    """Cgroup below which the pods' cgroups lie, e.g. ``/kubepods``; empty for the runtime's own."""

    pod_log_dir: Path = Path("/var/log/pods")
    """Folder of the containers' logs."""

    run_dir: Path = Path("/run/fedge/edged")
    """Folder in memory (tmpfs) for secrets and memory volumes; gone after a reboot."""

    seccomp_profile_dir: Path = Path("/var/lib/kubelet/seccomp")
    """Folder of the seccomp profiles that pods may name (``localhostProfile``)."""

    cluster_dns: list[str] = Field(default_factory=list)
    """Addresses of the cluster's DNS, if one runs at this edge; else ``ClusterFirst`` pods use the
    node's resolver."""

    cluster_domain: str = "cluster.local"
    """Domain of the cluster's services, for the full host names and searches of pods."""

    resolv_conf: Path = Path("/etc/resolv.conf")
    """The resolver settings of the node that pods get."""

    socket: Path | None = None
    """Unix socket for `fedge logs` and `fedge exec` at the node itself; by default ``edged.sock``
    in ``run_dir``."""

    offline_tokens: bool = True
    """Whether the node signs service-account tokens itself when those of the cloud have run out and
    the cloud is away."""

    container_log_max_size: str = "10Mi"
    """How large a container's log grows before it is rotated."""

    container_log_max_files: int = Field(default=5, ge=2)
    """How many parts of a container's log are kept, the one that is written among them."""

    max_parallel_image_pulls: int = Field(default=3, ge=1)
    """How many images are fetched side by side."""

    image_gc_high_percent: int = Field(default=85, ge=0, le=100)
    """How full the images' file system may be before unused images are removed."""

    image_gc_low_percent: int = Field(default=80, ge=0, le=100)
    """How full it is when no more are removed."""

    max_parallel_starts: int = Field(default=4, ge=1)
    """How many pods are started side by side. More does not make a small gateway faster: the
    runtime slows down, and each single pod waits longer."""

    relist_seconds: float = Field(default=60.0, gt=0)
    """How often the runtime is asked for everything, should an event have been missed."""

    report_seconds: float = Field(default=300.0, gt=0)
    """How often the node's status is reported though nothing changed."""

    max_pods: int = Field(default=DEFAULT_MAX_PODS, ge=1)
    """How many pods the node runs at most."""

    system_reserved: dict[str, str] = Field(default_factory=dict)
    """What the operating system needs and pods do not get, e.g. ``{"memory": "200Mi"}``."""

    kube_reserved: dict[str, str] = Field(default_factory=dict)
    """What edged, the broker and the container runtime need and pods do not get."""

    eviction_hard: dict[str, str] = Field(default_factory=lambda: dict(DEFAULT_HARD))
    """What has to stay free lest pods are evicted; the kubelet's signals, as amounts or shares.
    What is set takes the place of all defaults; with ``{}`` no pod is evicted."""

    eviction_transition_seconds: float = Field(default=300.0, ge=0)
    """How long a shortage still shows, and pods are refused, after it was seen last."""

    shutdown_grace_seconds: float = Field(default=0.0, ge=0)
    """How long the pods may take to end when SIGPWR says that the machine goes down; 0 leaves them
    running. Pods that are ended so have failed: unless they come from files, only the cloud brings
    others in their place."""

    shutdown_grace_critical_seconds: float = Field(default=0.0, ge=0)
    """The part of it that is kept for critical pods, which end last."""

    boot_file: Path | None = None
    """What the first process of the edge's image tells of it; the image sets this itself."""

    static_pod_dir: Path | None = None
    """Folder of manifests of pods that the node runs of its own accord; none if not set."""

    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    """What the services of one edge share."""

    @field_validator("system_reserved", "kube_reserved")
    @classmethod
    def _are_quantities(cls, reserved: dict[str, str]) -> dict[str, str]:
        amounts_of(reserved)
        return reserved

    @field_validator("shutdown_grace_critical_seconds")
    @classmethod
    def _is_part_of_it(cls, critical: float, info: ValidationInfo) -> float:
        if critical > info.data.get("shutdown_grace_seconds", 0.0):
            raise ValueError("is more than shutdown_grace_seconds, of which it is a part")
        return critical

    @field_validator("eviction_hard")
    @classmethod
    def _are_thresholds(cls, hard: dict[str, str]) -> dict[str, str]:
        parse_thresholds(hard)
        return hard
