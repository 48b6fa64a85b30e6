"""From a pod to what the runtime is asked for.

Labels and annotations are the kubelet's, so that tools which know its containers know these.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedge_cri import (
    ContainerSpec,
    Mount,
    MountPropagation,
    PortMapping,
    Profile,
    ProfileKind,
    SandboxSpec,
)
from fedge_edged.cgroups import Cgroups
from fedge_edged.dns import Names
from fedge_edged.environment import Environment, expand
from fedge_edged.errors import ConfigError
from fedge_edged.etc_hosts import CONTAINER_PATH, hosts_text, write_hosts
from fedge_edged.limits import resources_of
from fedge_edged.pods import Container, Pod, Volume, VolumeMount
from fedge_edged.security import container_security, supplemental_groups
from fedge_edged.subpaths import FOLDER, sub_path

_PROPAGATIONS = {
    "": MountPropagation.PRIVATE,
    "None": MountPropagation.PRIVATE,
    "HostToContainer": MountPropagation.HOST_TO_CONTAINER,
    "Bidirectional": MountPropagation.BIDIRECTIONAL,
}

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
HASH = "io.kubernetes.container.hash"
RESTARTS = "io.kubernetes.container.restartCount"
TAKEN_UP = "fedge.io/taken-up-at"
"""On a sandbox: when the node took its pod up, seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Folders of the node.

    Attributes:
        logs: of the containers' logs.
        pods: of what is kept for each pod, by uid.
        memory: the same in memory.
        seccomp: of the node's own seccomp profiles.
    """

    logs: Path
    pods: Path
    memory: Path
    seccomp: Path = Path("/var/lib/kubelet/seccomp")


class Specs:
    """Translates; what is the same for all pods of a node is given once."""

    def __init__(
        self,
        *,
        environment: Environment,
        places: Places,
        cgroups: Cgroups,
        memory_bytes: int,
        names: Names | None = None,
    ) -> None:
        self._environment = environment
        self._places = places
        self._memory_bytes = memory_bytes
        self._names = names or Names()
        self.cgroups = cgroups

    def log_folder(self, namespace: str, name: str, uid: str) -> Path:
        """Return the folder of a pod's logs."""
        return self._places.logs / f"{namespace}_{name}_{uid}"

    def log_path(self, pod: Pod, container: str, attempt: int) -> Path:
        """Return the log of one of a pod's containers."""
        meta = pod.metadata
        folder = self.log_folder(meta.namespace, meta.name, meta.uid)
        return folder / container / f"{attempt}.log"

    def termination_log(self, pod: Pod, container: Container, attempt: int) -> Path:
        """Return the file that a container sees at its ``terminationMessagePath``."""
        folder = self._places.pods / pod.metadata.uid / "containers" / container.name
        return folder / f"{attempt}.message"

    def sandbox(self, pod: Pod, attempt: int, *, taken_up_at: float) -> SandboxSpec:
        """Return the sandbox that the pod wants.

        Args:
            pod: as wanted.
            attempt: how many sandboxes it had before.
            taken_up_at: when the node took it up, seconds since the epoch; kept on the sandbox,
                so that the pod's ``startTime`` outlives this process.

        Raises:
            ConfigError: the pod contradicts itself, or asks for what no runtime here does.
        """
        meta, spec = pod.metadata, pod.spec
        security = spec.security_context
        if not spec.host_users:
            raise ConfigError(
                "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
            )
        return SandboxSpec(
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            attempt=attempt,
            hostname=self._names.hostname(pod),
            log_directory=str(self.log_folder(meta.namespace, meta.name, meta.uid)),
            labels={
                **meta.labels,
                POD_NAME: meta.name,
                POD_NAMESPACE: meta.namespace,
                POD_UID: meta.uid,
            },
            annotations={**meta.annotations, TAKEN_UP: repr(taken_up_at)},
            dns=self._names.dns(pod),
            ports=[
                PortMapping(
                    container_port=port.container_port,
                    host_port=port.host_port,
                    protocol=port.protocol,
                    host_ip=port.host_ip,
                )
                for container in pod.all_containers
                for port in container.ports
                if port.host_port and not spec.host_network
            ],
            cgroup_parent=self.cgroups.path_of(pod),
            host_network=spec.host_network,
            host_pid=spec.host_pid,
            host_ipc=spec.host_ipc,
            share_process_namespace=spec.share_process_namespace,
            privileged=any(c.security_context.privileged for c in pod.all_containers),
            sysctls={
                each["name"].replace("/", "."): each.get("value", "") for each in security.sysctls
            },
            runtime_handler=spec.runtime_class_name,
            run_as_user=security.run_as_user,
            run_as_group=security.run_as_group,
            supplemental_groups=supplemental_groups(pod),
            seccomp=Profile(kind=ProfileKind.RUNTIME_DEFAULT),
        )

    def container(
        self,
        pod: Pod,
        container: Container,
        attempt: int,
        *,
        image: str,
        volumes: Mapping[str, Path],
        facts: Mapping[str, str],
    ) -> ContainerSpec:
        """Return the container that the pod wants.

        Raises:
            ConfigError: something that it refers to is missing.
            MountError: a volume cannot be mounted as asked.
        """
        env = self._environment.of(pod, container, facts)
        mounts = [
            self._mount(pod, container, mount, volumes, env) for mount in container.volume_mounts
        ]
        mounts += self._hosts_mounts(pod, facts.get("status.podIPs", ""), mounts)
        mounts += self._termination_mounts(pod, container, attempt, mounts)
        meta = pod.metadata
        return ContainerSpec(
            name=container.name,
            attempt=attempt,
            image=image,
            log_path=f"{container.name}/{attempt}.log",
            command=[expand(each, env) for each in container.command],
            args=[expand(each, env) for each in container.args],
            working_dir=container.working_dir,
            env=list(env.items()),
            mounts=mounts,
            labels={
                CONTAINER_NAME: container.name,
                POD_NAME: meta.name,
                POD_NAMESPACE: meta.namespace,
                POD_UID: meta.uid,
            },
            annotations={HASH: spec_hash(container), RESTARTS: str(attempt)},
            stdin=container.stdin,
            stdin_once=container.stdin_once,
            tty=container.tty,
            resources=resources_of(pod, container, memory_bytes=self._memory_bytes),
            security=container_security(pod, container, seccomp_dir=self._places.seccomp),
        )

    def _mount(
        self,
        pod: Pod,
        container: Container,
        mount: VolumeMount,
        volumes: Mapping[str, Path],
        env: Mapping[str, str],
    ) -> Mount:
        if mount.name not in volumes:
            raise ConfigError(f'volume "{mount.name}" is not in the pod')
        _check_recursive(mount)
        propagation = _PROPAGATIONS[mount.mount_propagation]
        privileged = container.security_context.privileged
        if propagation is MountPropagation.BIDIRECTIONAL and not privileged:
            raise ConfigError(
                f'mount "{mount.mount_path}": Bidirectional mount propagation is available only '
                "to privileged containers"
            )
        volume = next(each for each in pod.spec.volumes if each.name == mount.name)
        return Mount(
            container_path=expand(mount.mount_path, env),
            host_path=str(self._source(pod, container, mount, volumes[mount.name], env)),
            # what the node writes, and writes anew, is nobody else's to write
            readonly=mount.read_only or _is_written_by_node(volume),
            propagation=propagation,
        )

    def _source(
        self,
        pod: Pod,
        container: Container,
        mount: VolumeMount,
        path: Path,
        env: Mapping[str, str],
    ) -> Path:
        """Return what of a volume a container mounts."""
        part = mount.sub_path
        if mount.sub_path_expr:
            part = expand(mount.sub_path_expr, env)
            if "$(" in part:
                raise ConfigError(f'missing value for subPathExpr "{mount.sub_path_expr}"')
        if not part:
            return path
        volume = next(each for each in pod.spec.volumes if each.name == mount.name)
        at = None
        if not _is_written_by_node(volume):
            number = container.volume_mounts.index(mount)
            folder = self._places.memory / pod.metadata.uid / "volumes" / FOLDER
            at = folder / container.name / str(number)
        try:
            return sub_path(path, part, at=at)
        except ConfigError as exc:
            raise ConfigError(
                f'failed to prepare subPath for volumeMount "{mount.name}" of container '
                f'"{container.name}": {exc}'
            ) from exc

    def _hosts_mounts(self, pod: Pod, ips: str, others: Sequence[Mount]) -> list[Mount]:
        if any(each.container_path == CONTAINER_PATH for each in others):
            return []
        path = self._places.memory / pod.metadata.uid / "etc-hosts"
        write_hosts(path, hosts_text(pod, [each for each in ips.split(",") if each], self._names))
        return [Mount(container_path=CONTAINER_PATH, host_path=str(path))]

    def _termination_mounts(
        self, pod: Pod, container: Container, attempt: int, others: Sequence[Mount]
    ) -> list[Mount]:
        """Make the file for what the container says at its end, that of older attempts go."""
        path = container.termination_message_path
        if not path or any(each.container_path == path for each in others):
            return []
        file = self.termination_log(pod, container, attempt)
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in file.parent.glob("*.message"):
            if old.stem.isdecimal() and int(old.stem) < attempt - 1:
                old.unlink(missing_ok=True)
        file.touch()
        file.chmod(0o666)  # whoever the container runs as may write
        return [Mount(container_path=path, host_path=str(file))]


def must_not_be_root(pod: Pod, container: Container) -> bool:
    """Whether the container's ``runAsNonRoot``, or else the pod's, is set."""
    own, shared = container.security_context.run_as_non_root, pod.spec.security_context
    return bool(shared.run_as_non_root if own is None else own)


def spec_hash(container: Container) -> str:
    """Return what changes when the container has to be made anew: its name and image.

    https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement
    """
    wanted = json.dumps([container.name, container.image])
    return hashlib.sha256(wanted.encode()).hexdigest()[:16]


def _check_recursive(mount: VolumeMount) -> None:
    """Refuse what no runtime here is known to do; ``IfPossible`` means not to.

    https://kubernetes.io/docs/concepts/storage/volumes/#read-only-mounts
    """
    if mount.recursive_read_only != "Enabled":
        return
    why = "it is not supported by the runtime" if mount.read_only else "it is not read-only"
    raise ConfigError(
        f'failed to resolve recursive read-only mode: volume "{mount.name}" requested recursive '
        f"read-only mode, but {why}"
    )


def _is_written_by_node(volume: Volume) -> bool:
    sources = (volume.config_map, volume.secret, volume.downward_api, volume.projected)
    return any(each is not None for each in sources)
