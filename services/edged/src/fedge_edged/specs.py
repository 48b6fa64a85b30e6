"""From a pod to what the runtime is asked for.

Labels and annotations are the kubelet's, so that tools which know its containers know these.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from fedge_cri import ContainerSpec, Dns, Mount, PortMapping, SandboxSpec, Security
from fedge_edged.environment import Environment, expand
from fedge_edged.errors import ConfigError
from fedge_edged.limits import resources_of
from fedge_edged.pods import Container, Pod
from fedge_edged.volumes import mount_source

log = structlog.stdlib.get_logger("fedge.edged")

_CGROUPS = Path("/sys/fs/cgroup")

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
HASH = "io.kubernetes.container.hash"
RESTARTS = "io.kubernetes.container.restartCount"


class Specs:
    """Translates; what is the same for all pods of a node is given once."""

    def __init__(
        self,
        *,
        environment: Environment,
        log_dir: Path,
        pods_dir: Path,
        cgroup_parent: str,
        memory_bytes: int,
    ) -> None:
        self._environment = environment
        self._log_dir = log_dir
        self._pods_dir = pods_dir
        self._cgroup_parent = cgroup_parent
        self._memory_bytes = memory_bytes

    def log_folder(self, namespace: str, name: str, uid: str) -> Path:
        """Return the folder of a pod's logs."""
        return self._log_dir / f"{namespace}_{name}_{uid}"

    def termination_log(self, pod: Pod, container: Container, attempt: int) -> Path:
        """Return the file that a container sees at its ``terminationMessagePath``."""
        folder = self._pods_dir / pod.metadata.uid / "containers" / container.name
        return folder / f"{attempt}.message"

    def remove_cgroup(self, uid: str) -> None:
        """Remove the cgroups of a pod that is gone; the runtime leaves the pod's own behind."""
        if not self._cgroup_parent:
            return
        for root in (_CGROUPS, *_CGROUPS.glob("*/")):
            cgroup = root / self._cgroup_parent.strip("/") / f"pod{uid}"
            if not cgroup.is_dir():
                continue
            try:
                cgroup.rmdir()
            except OSError as exc:
                log.info("cgroup_stays", cgroup=str(cgroup), reason=str(exc))

    def sandbox(self, pod: Pod, attempt: int) -> SandboxSpec:
        """Return the sandbox that the pod wants."""
        meta, spec = pod.metadata, pod.spec
        parent = f"{self._cgroup_parent}/pod{meta.uid}" if self._cgroup_parent else ""
        return SandboxSpec(
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            attempt=attempt,
            hostname="" if spec.host_network else (spec.hostname or meta.name)[:63].rstrip("-."),
            log_directory=str(self.log_folder(meta.namespace, meta.name, meta.uid)),
            labels={
                **meta.labels,
                POD_NAME: meta.name,
                POD_NAMESPACE: meta.namespace,
                POD_UID: meta.uid,
            },
            annotations=meta.annotations,
            dns=_dns(pod),
            ports=[
                PortMapping(
                    container_port=port.container_port,
                    host_port=port.host_port,
                    protocol=port.protocol,
                    host_ip=port.host_ip,
                )
                for container in spec.containers
                for port in container.ports
                if port.host_port and not spec.host_network
            ],
            cgroup_parent=parent,
            host_network=spec.host_network,
            host_pid=spec.host_pid,
            host_ipc=spec.host_ipc,
            share_process_namespace=spec.share_process_namespace,
            privileged=any(c.security_context.privileged for c in spec.containers),
            sysctls={each["name"]: each.get("value", "") for each in spec.security_context.sysctls},
            runtime_handler=spec.runtime_class_name,
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
        mounts = []
        for mount in container.volume_mounts:
            if mount.name not in volumes:
                raise ConfigError(f'volume "{mount.name}" is not in the pod')
            mounts.append(
                Mount(
                    container_path=expand(mount.mount_path, env),
                    host_path=str(mount_source(volumes[mount.name], mount)),
                    readonly=mount.read_only,
                )
            )
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
            security=_security(pod, container),
        )

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


def _dns(pod: Pod) -> Dns | None:
    """Return the pod's resolver settings; None for the node's.

    There is no cluster DNS at the edge by itself: ``ClusterFirst`` falls back to ``Default``, as
    the kubelet does where none is configured.
    https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy
    """
    config = pod.spec.dns_config
    if pod.spec.dns_policy != "None" or config is None:
        return None
    return Dns(
        servers=config.nameservers,
        searches=config.searches,
        options=[
            each.name if each.value is None else f"{each.name}:{each.value}"
            for each in config.options
        ],
    )


def _security(pod: Pod, container: Container) -> Security:
    own, shared = container.security_context, pod.spec.security_context
    return Security(
        privileged=own.privileged,
        readonly_rootfs=own.read_only_root_filesystem,
        no_new_privileges=own.allow_privilege_escalation is False and not own.privileged,
        run_as_user=shared.run_as_user if own.run_as_user is None else own.run_as_user,
        run_as_group=shared.run_as_group if own.run_as_group is None else own.run_as_group,
        supplemental_groups=shared.supplemental_groups,
        add_capabilities=own.capabilities.add,
        drop_capabilities=own.capabilities.drop,
    )
