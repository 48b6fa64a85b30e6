"""Settings of edged."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

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

    max_parallel_starts: int = Field(default=4, ge=1)
    """How many pods are started side by side. More does not make a small gateway faster: the
    runtime slows down, and each single pod waits longer."""

    relist_seconds: float = Field(default=60.0, gt=0)
    """How often the runtime is asked for everything, should an event have been missed."""

    report_seconds: float = Field(default=300.0, gt=0)
    """How often the node's status is reported though nothing changed."""

    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    """What the services of one edge share."""
