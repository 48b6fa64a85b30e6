"""Sandboxes, containers and images, in the words of the Container Runtime Interface.

https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

Labels = Mapping[str, str]


class ContainerState(Enum):
    """Where a container is in its life."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """A port of the host that leads into the sandbox."""

    container_port: int
    host_port: int
    protocol: str = "TCP"
    host_ip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """What the sandbox's resolv.conf says; None of it: the host's."""

    servers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """A pod's surroundings: network, names, limits.

    Attributes:
        name: the pod's.
        namespace: the pod's.
        uid: the pod's.
        attempt: with the others unique, so that making it twice makes one.
        hostname: inside; empty with the host's network.
        log_directory: absolute; containers' log paths are below it.
        labels: for finding it again.
        annotations: kept as they are.
        dns: None for the host's own.
        ports: mapped from the host.
        cgroup_parent: absolute path of a cgroup; empty for the runtime's own.
        host_network: share the node's network; likewise pid and ipc.
        share_process_namespace: one process namespace for all containers of the pod.
        privileged: whether any container will be.
        runtime_handler: empty for the default.
    """

    name: str
    namespace: str
    uid: str
    attempt: int
    log_directory: str
    hostname: str = ""
    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)
    dns: Dns | None = None
    ports: Sequence[PortMapping] = ()
    cgroup_parent: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool = False
    privileged: bool = False
    sysctls: Labels = field(default_factory=dict)
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or folder of the host, seen in the container."""

    container_path: str
    host_path: str
    readonly: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits in cgroup terms; 0 sets none.

    Attributes:
        cpu_shares: weight.
        cpu_quota: microseconds per period.
        cpu_period: microseconds.
        memory_limit_bytes: hard limit.
        oom_score_adj: -1000 to 1000.
    """

    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    memory_limit_bytes: int = 0
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Who the container's process is and what it may do."""

    privileged: bool = False
    readonly_rootfs: bool = False
    no_new_privileges: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: Sequence[int] = ()
    add_capabilities: Sequence[str] = ()
    drop_capabilities: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container of a sandbox.

    Attributes:
        name: as in the pod.
        attempt: rises with each start.
        image: reference or id that the runtime has.
        command: replaces the image's entrypoint when not empty.
        args: replaces the image's command when not empty.
        working_dir: empty for the image's.
        env: in order.
        mounts: in order.
        labels: for finding it again.
        annotations: kept as they are.
        log_path: below the sandbox's log directory.
    """

    name: str
    attempt: int
    image: str
    log_path: str
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    working_dir: str = ""
    env: Sequence[tuple[str, str]] = ()
    mounts: Sequence[Mount] = ()
    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    resources: Resources = field(default_factory=Resources)
    security: Security = field(default_factory=Security)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A sandbox that the runtime knows. ``created_at`` in nanoseconds since the epoch."""

    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    is_ready: bool
    created_at: int
    labels: Labels
    annotations: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container that the runtime knows. ``created_at`` in nanoseconds since the epoch."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    image: str
    image_ref: str
    state: ContainerState
    created_at: int
    labels: Labels
    annotations: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """How a container is doing. Times in nanoseconds since the epoch, 0 for never."""

    id: str
    state: ContainerState
    started_at: int
    finished_at: int
    exit_code: int
    reason: str
    message: str
    image: str
    image_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image on the node."""

    id: str
    tags: Sequence[str]
    digests: Sequence[str]
    size_bytes: int
    uid: int | None = None
    """Whom it runs as, if that is a number."""
    username: str = ""
    """Whom it runs as, if that is a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """For a registry. Never printed."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """A container or sandbox has ended, or is about to be seen as ended.

    The runtime tells it as soon as the process is gone; it may take some milliseconds more until
    the runtime itself lists it so.
    """

    container_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInfo:
    """Which runtime answers."""

    name: str
    version: str
