"""Between this package's values and the protocol's messages."""

from typing import Any

from fedge_cri._generated import runtime_v1_pb2 as v1
from fedge_cri.model import (
    Container,
    ContainerSpec,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    FilesystemUsage,
    Image,
    MountPropagation,
    Profile,
    ProfileKind,
    Sandbox,
    SandboxSpec,
)

_STATES = {
    v1.CONTAINER_CREATED: ContainerState.CREATED,
    v1.CONTAINER_RUNNING: ContainerState.RUNNING,
    v1.CONTAINER_EXITED: ContainerState.EXITED,
    v1.CONTAINER_UNKNOWN: ContainerState.UNKNOWN,
}

_MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
)
_READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
"""What an unprivileged container must not see or change of /proc and /sys."""


_PROPAGATIONS = {
    MountPropagation.PRIVATE: v1.PROPAGATION_PRIVATE,
    MountPropagation.HOST_TO_CONTAINER: v1.PROPAGATION_HOST_TO_CONTAINER,
    MountPropagation.BIDIRECTIONAL: v1.PROPAGATION_BIDIRECTIONAL,
}
_PROFILES = {
    ProfileKind.RUNTIME_DEFAULT: v1.SecurityProfile.RuntimeDefault,
    ProfileKind.UNCONFINED: v1.SecurityProfile.Unconfined,
    ProfileKind.LOCALHOST: v1.SecurityProfile.Localhost,
}


def _profile(profile: Profile) -> v1.SecurityProfile:
    return v1.SecurityProfile(
        profile_type=_PROFILES[profile.kind], localhost_ref=profile.localhost_ref
    )


def _namespaces(spec: SandboxSpec, target: str = "") -> v1.NamespaceOption:
    pid = v1.CONTAINER
    if target:
        pid = v1.TARGET
    elif spec.host_pid:
        pid = v1.NODE
    elif spec.share_process_namespace:
        pid = v1.POD
    return v1.NamespaceOption(
        network=v1.NODE if spec.host_network else v1.POD,
        pid=pid,
        ipc=v1.NODE if spec.host_ipc else v1.POD,
        target_id=target,
    )


def sandbox_config(spec: SandboxSpec) -> v1.PodSandboxConfig:
    """Return the message that describes a sandbox."""
    config = v1.PodSandboxConfig(
        metadata=v1.PodSandboxMetadata(
            name=spec.name, uid=spec.uid, namespace=spec.namespace, attempt=spec.attempt
        ),
        hostname=spec.hostname,
        log_directory=spec.log_directory,
        port_mappings=[
            v1.PortMapping(
                protocol=v1.Protocol.Value(port.protocol),
                container_port=port.container_port,
                host_port=port.host_port,
                host_ip=port.host_ip,
            )
            for port in spec.ports
        ],
        labels=spec.labels,
        annotations=spec.annotations,
        linux=v1.LinuxPodSandboxConfig(
            cgroup_parent=spec.cgroup_parent,
            security_context=_sandbox_security(spec),
            sysctls=spec.sysctls,
        ),
    )
    if spec.dns is not None:
        config.dns_config.CopyFrom(
            v1.DNSConfig(
                servers=spec.dns.servers, searches=spec.dns.searches, options=spec.dns.options
            )
        )
    return config


def _sandbox_security(spec: SandboxSpec) -> v1.LinuxSandboxSecurityContext:
    context = v1.LinuxSandboxSecurityContext(
        namespace_options=_namespaces(spec),
        privileged=spec.privileged,
        supplemental_groups=spec.supplemental_groups,
    )
    if spec.run_as_user is not None:
        context.run_as_user.value = spec.run_as_user
    if spec.run_as_group is not None:
        context.run_as_group.value = spec.run_as_group
    if spec.seccomp is not None:
        context.seccomp.CopyFrom(_profile(spec.seccomp))
    if spec.apparmor is not None:
        context.apparmor.CopyFrom(_profile(spec.apparmor))
    return context


def container_config(spec: ContainerSpec, sandbox: SandboxSpec) -> v1.ContainerConfig:
    """Return the message that describes a container."""
    return v1.ContainerConfig(
        metadata=v1.ContainerMetadata(name=spec.name, attempt=spec.attempt),
        image=v1.ImageSpec(image=spec.image),
        command=spec.command,
        args=spec.args,
        working_dir=spec.working_dir,
        envs=[v1.KeyValue(key=key, value=value) for key, value in spec.env],
        mounts=[
            v1.Mount(
                container_path=mount.container_path,
                host_path=mount.host_path,
                readonly=mount.readonly,
                propagation=_PROPAGATIONS[mount.propagation],
            )
            for mount in spec.mounts
        ],
        labels=spec.labels,
        annotations=spec.annotations,
        log_path=spec.log_path,
        stdin=spec.stdin,
        stdin_once=spec.stdin_once,
        tty=spec.tty,
        linux=v1.LinuxContainerConfig(
            resources=v1.LinuxContainerResources(
                cpu_shares=spec.resources.cpu_shares,
                cpu_quota=spec.resources.cpu_quota,
                cpu_period=spec.resources.cpu_period,
                memory_limit_in_bytes=spec.resources.memory_limit_bytes,
                oom_score_adj=spec.resources.oom_score_adj,
                hugepage_limits=[
                    v1.HugepageLimit(page_size=size, limit=limit)
                    for size, limit in spec.resources.hugepage_limits.items()
                ],
            ),
            security_context=_security(spec, sandbox),
        ),
    )


def _security(spec: ContainerSpec, sandbox: SandboxSpec) -> v1.LinuxContainerSecurityContext:
    security = spec.security
    shows_all = security.privileged or security.unmasked_proc
    context = v1.LinuxContainerSecurityContext(
        capabilities=v1.Capability(
            add_capabilities=security.add_capabilities,
            drop_capabilities=security.drop_capabilities,
        ),
        privileged=security.privileged,
        namespace_options=_namespaces(sandbox, spec.target_container_id),
        readonly_rootfs=security.readonly_rootfs,
        no_new_privs=security.no_new_privileges,
        supplemental_groups=security.supplemental_groups,
        masked_paths=() if shows_all else _MASKED_PATHS,
        readonly_paths=() if shows_all else _READONLY_PATHS,
    )
    if security.run_as_user is not None:
        context.run_as_user.value = security.run_as_user
    if security.run_as_group is not None:
        context.run_as_group.value = security.run_as_group
    if security.seccomp is not None:
        context.seccomp.CopyFrom(_profile(security.seccomp))
    if security.apparmor is not None:
        context.apparmor.CopyFrom(_profile(security.apparmor))
    return context


def sandbox(message: Any) -> Sandbox:
    """Return a sandbox from a list."""
    return Sandbox(
        id=message.id,
        name=message.metadata.name,
        namespace=message.metadata.namespace,
        uid=message.metadata.uid,
        attempt=message.metadata.attempt,
        is_ready=message.state == v1.SANDBOX_READY,
        created_at=message.created_at,
        labels=dict(message.labels),
        annotations=dict(message.annotations),
    )


def container(message: Any) -> Container:
    """Return a container from a list."""
    return Container(
        id=message.id,
        sandbox_id=message.pod_sandbox_id,
        name=message.metadata.name,
        attempt=message.metadata.attempt,
        image=message.image.image,
        image_ref=message.image_ref,
        state=_STATES[message.state],
        created_at=message.created_at,
        labels=dict(message.labels),
        annotations=dict(message.annotations),
    )


def container_status(message: Any) -> ContainerStatus:
    """Return a container's status."""
    return ContainerStatus(
        id=message.id,
        state=_STATES[message.state],
        started_at=message.started_at,
        finished_at=message.finished_at,
        exit_code=message.exit_code,
        reason=message.reason,
        message=message.message,
        image=message.image.image,
        image_ref=message.image_ref,
    )


def image(message: Any) -> Image:
    """Return an image."""
    return Image(
        id=message.id,
        tags=list(message.repo_tags),
        digests=list(message.repo_digests),
        size_bytes=message.size,
        uid=message.uid.value if message.HasField("uid") else None,
        username=message.username,
        pinned=message.pinned,
    )


def container_stats(message: Any) -> ContainerStats:
    """Return what a container uses."""
    return ContainerStats(
        id=message.attributes.id,
        cpu_core_nanoseconds=message.cpu.usage_core_nano_seconds.value,
        memory_working_set_bytes=message.memory.working_set_bytes.value,
        writable_layer_bytes=message.writable_layer.used_bytes.value,
        writable_layer_inodes=message.writable_layer.inodes_used.value,
    )


def filesystem(message: Any) -> FilesystemUsage:
    """Return how much of a file system is used."""
    return FilesystemUsage(
        mountpoint=message.fs_id.mountpoint,
        used_bytes=message.used_bytes.value,
        used_inodes=message.inodes_used.value,
    )
