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


class MountPropagation(Enum):
    """Whether mounts made below a mount are seen on its other side."""

    PRIVATE = "None"
    HOST_TO_CONTAINER = "HostToContainer"
    BIDIRECTIONAL = "Bidirectional"


class ProfileKind(Enum):
    """Where a seccomp or AppArmor profile comes from."""

    RUNTIME_DEFAULT = "RuntimeDefault"
    UNCONFINED = "Unconfined"
    LOCALHOST = "Localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A seccomp or AppArmor profile.

    Attributes:
        kind: where it comes from.
        localhost_ref: with ``LOCALHOST`` the absolute path of a seccomp file, or the name of an
            AppArmor profile that the kernel has loaded.
    """

    kind: ProfileKind
    localhost_ref: str = ""


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
        sysctls: kernel parameters of the pod's own namespaces.
        runtime_handler: empty for the default.
        run_as_user: of the sandbox's own process; likewise the groups.
        seccomp: of the sandbox's own process; None leaves it to the runtime.
        apparmor: likewise.
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
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: Sequence[int] = ()
    seccomp: Profile | None = None
    apparmor: Profile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or folder of the host, seen in the container."""

    container_path: str
    host_path: str
    readonly: bool = False
    propagation: MountPropagation = MountPropagation.PRIVATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits in cgroup terms; 0 sets none.

    Attributes:
        cpu_shares: weight.
        cpu_quota: microseconds per period.
        cpu_period: microseconds.
        memory_limit_bytes: hard limit.
        oom_score_adj: -1000 to 1000.
        hugepage_limits: bytes by page size as the kernel names it, e.g. ``2MB``.
    """

    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    memory_limit_bytes: int = 0
    oom_score_adj: int = 0
    hugepage_limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Who the container's process is and what it may do.

    ``unmasked_proc`` shows all of /proc and /sys; a profile of None is the runtime's own choice.
    """

    privileged: bool = False
    readonly_rootfs: bool = False
    no_new_privileges: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: Sequence[int] = ()
    add_capabilities: Sequence[str] = ()
    drop_capabilities: Sequence[str] = ()
    unmasked_proc: bool = False
    seccomp: Profile | None = None
    apparmor: Profile | None = None


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
        target_container_id: share this container's process namespace; empty for none.
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
    target_container_id: str = ""


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
    pinned: bool = False
    """The runtime itself needs it: it is not to be removed."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """What a command in a container wrote, and its exit code."""

    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesystemUsage:
    """How much of a file system the runtime uses."""

    mountpoint: str
    used_bytes: int
    used_inodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStats:
    """What a container uses now.

    Attributes:
        id: the container's.
        cpu_core_nanoseconds: since its start.
        memory_working_set_bytes: what cannot be taken back without harm.
        writable_layer_bytes: written beside its volumes.
        writable_layer_inodes: likewise, in files.
    """

    id: str
    cpu_core_nanoseconds: int
    memory_working_set_bytes: int
    writable_layer_bytes: int
    writable_layer_inodes: int
