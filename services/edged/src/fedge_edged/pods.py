"""Pods as edged reads them: the fields that it uses, typed.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

import re
from typing import Any

import msgspec

from fedge_objects import JsonObject, ObjectKey, Version

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


class _View(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """Reads camelCase JSON and ignores what it does not name."""


class ObjectMeta(_View, frozen=True):
    """Who the pod is."""

    name: str
    namespace: str = "default"
    uid: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class LocalReference(_View, frozen=True):
    """An object of the same namespace, maybe optional."""

    name: str = ""
    optional: bool = False


class KeyReference(_View, frozen=True):
    """One entry of an object of the same namespace."""

    name: str = ""
    key: str = ""
    optional: bool = False


class FieldReference(_View, frozen=True):
    """A field of the pod itself."""

    field_path: str = ""


class ResourceReference(_View, frozen=True):
    """A container's own request or limit."""

    resource: str = ""
    container_name: str = ""
    divisor: str = "0"


class EnvVarSource(_View, frozen=True):
    """Where a variable's value comes from."""

    field_ref: FieldReference | None = None
    resource_field_ref: ResourceReference | None = None
    config_map_key_ref: KeyReference | None = None
    secret_key_ref: KeyReference | None = None


class EnvVar(_View, frozen=True):
    """A variable."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvFromSource(_View, frozen=True):
    """All entries of an object as variables."""

    prefix: str = ""
    config_map_ref: LocalReference | None = None
    secret_ref: LocalReference | None = None


class VolumeMount(_View, frozen=True):
    """Where a container sees a volume."""

    name: str
    mount_path: str
    read_only: bool = False
    recursive_read_only: str = ""
    sub_path: str = ""
    sub_path_expr: str = ""
    mount_propagation: str = ""


class ContainerPort(_View, frozen=True):
    """A port, maybe mapped from the node."""

    container_port: int
    name: str = ""
    host_port: int = 0
    protocol: str = "TCP"
    host_ip: str = msgspec.field(name="hostIP", default="")


class ResourceRequirements(_View, frozen=True):
    """Requests and limits as quantities."""

    requests: dict[str, str | int | float] = {}
    limits: dict[str, str | int | float] = {}


class SecurityProfile(_View, frozen=True):
    """A seccomp or AppArmor profile: ``RuntimeDefault``, ``Unconfined`` or ``Localhost``."""

    type: str = ""
    localhost_profile: str = ""


class Capabilities(_View, frozen=True):
    """Added and dropped."""

    add: list[str] = []
    drop: list[str] = []


class SecurityContext(_View, frozen=True):
    """Of a container; what it leaves open comes from the pod's."""

    privileged: bool = False
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    capabilities: Capabilities = Capabilities()
    seccomp_profile: SecurityProfile | None = None
    app_armor_profile: SecurityProfile | None = None
    proc_mount: str = ""


class PodSecurityContext(_View, frozen=True):
    """Of the pod."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: list[int] = []
    supplemental_groups_policy: str = ""
    fs_group: int | None = None
    fs_group_change_policy: str = "Always"
    sysctls: list[dict[str, str]] = []
    seccomp_profile: SecurityProfile | None = None
    app_armor_profile: SecurityProfile | None = None


class ExecAction(_View, frozen=True):
    """A command in the container."""

    command: list[str] = []


class HttpHeader(_View, frozen=True):
    """A header of a request."""

    name: str
    value: str = ""


class HttpGetAction(_View, frozen=True):
    """A request to the container. ``port`` is a number or the name of a port."""

    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: list[HttpHeader] = []


class TcpSocketAction(_View, frozen=True):
    """A connection to the container. ``port`` is a number or the name of a port."""

    port: int | str
    host: str = ""


class GrpcAction(_View, frozen=True):
    """A call of ``grpc.health.v1.Health/Check``."""

    port: int
    service: str = ""


class SleepAction(_View, frozen=True):
    """A pause."""

    seconds: int = 0


class Probe(_View, frozen=True):
    """How to find out how a container is; exactly one action is set."""

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    grpc: GrpcAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(_View, frozen=True):
    """What is done at a point of a container's life; exactly one action is set."""

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(_View, frozen=True):
    """What is done after a container's start and before its end."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class Container(_View, frozen=True):
    """A container, init container or ephemeral container.

    ``restart_policy`` is ``Always`` for a sidecar (an init container that goes on running);
    ``target_container_name`` is an ephemeral container's.
    """

    name: str
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    env: list[EnvVar] = []
    env_from: list[EnvFromSource] = []
    ports: list[ContainerPort] = []
    resources: ResourceRequirements = ResourceRequirements()
    volume_mounts: list[VolumeMount] = []
    image_pull_policy: str = ""
    security_context: SecurityContext = SecurityContext()
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: str = "File"
    restart_policy: str = ""
    target_container_name: str = ""

    @property
    def is_sidecar(self) -> bool:
        """Whether it is an init container that goes on running.

        https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
        """
        return self.restart_policy == "Always"


class KeyToPath(_View, frozen=True):
    """Puts one entry at a path of its own."""

    key: str
    path: str
    mode: int | None = None


class ConfigMapSource(_View, frozen=True):
    """A config map as files."""

    name: str = ""
    items: list[KeyToPath] | None = None
    default_mode: int = 0o644
    optional: bool = False


class SecretSource(_View, frozen=True):
    """A secret as files; a volume names it ``secretName``, a projection ``name``."""

    secret_name: str = ""
    name: str = ""
    items: list[KeyToPath] | None = None
    default_mode: int = 0o644
    optional: bool = False


class DownwardFile(_View, frozen=True):
    """One field of the pod, or a container's request or limit, as a file."""

    path: str
    field_ref: FieldReference | None = None
    resource_field_ref: ResourceReference | None = None
    mode: int | None = None


class DownwardSource(_View, frozen=True):
    """Fields of the pod as files."""

    items: list[DownwardFile] = []
    default_mode: int = 0o644


class ServiceAccountTokenSource(_View, frozen=True):
    """A token of the pod's service account as a file."""

    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class Projection(_View, frozen=True):
    """One source of a projected volume."""

    config_map: ConfigMapSource | None = None
    secret: SecretSource | None = None
    downward_api: DownwardSource | None = msgspec.field(name="downwardAPI", default=None)
    service_account_token: ServiceAccountTokenSource | None = None


class ProjectedSource(_View, frozen=True):
    """Several sources in one folder."""

    sources: list[Projection] = []
    default_mode: int = 0o644


class EmptyDirSource(_View, frozen=True):
    """A folder that lives as long as the pod."""

    medium: str = ""
    size_limit: str | int | float | None = None
    mode: int | None = None


class HostPathSource(_View, frozen=True):
    """A file or folder of the node."""

    path: str
    type: str = ""


class Volume(_View, frozen=True):
    """A volume; exactly one source is set, or none that edged knows."""

    name: str
    config_map: ConfigMapSource | None = None
    secret: SecretSource | None = None
    empty_dir: EmptyDirSource | None = None
    host_path: HostPathSource | None = None
    downward_api: DownwardSource | None = msgspec.field(name="downwardAPI", default=None)
    projected: ProjectedSource | None = None


class DnsOption(_View, frozen=True):
    """A resolver option."""

    name: str = ""
    value: str | None = None


class DnsConfig(_View, frozen=True):
    """What resolv.conf says beside or instead of the policy."""

    nameservers: list[str] = []
    searches: list[str] = []
    options: list[DnsOption] = []


class HostAlias(_View, frozen=True):
    """A line of /etc/hosts."""

    ip: str
    hostnames: list[str] = []


class Toleration(_View, frozen=True):
    """Which taints the pod bears."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class ReadinessGate(_View, frozen=True):
    """A condition that somebody else sets and that has to hold for the pod to be ready."""

    condition_type: str = ""


class PodOs(_View, frozen=True):
    """The operating system that the pod is for."""

    name: str = ""


class PodSpec(_View, frozen=True):
    """What should run.

    ``affinity`` is left as JSON: only its required node affinity concerns a node.
    """

    containers: list[Container]
    init_containers: list[Container] = []
    ephemeral_containers: list[Container] = []
    active_deadline_seconds: int | None = None
    readiness_gates: list[ReadinessGate] = []
    host_aliases: list[HostAlias] = []
    subdomain: str = ""
    set_hostname_as_fqdn: bool = msgspec.field(name="setHostnameAsFQDN", default=False)
    node_selector: dict[str, str] = {}
    affinity: JsonObject = {}
    tolerations: list[Toleration] = []
    priority: int | None = None
    priority_class_name: str = ""
    overhead: dict[str, str | int | float] = {}
    os: PodOs = PodOs()
    volumes: list[Volume] = []
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    node_name: str = ""
    service_account_name: str = "default"
    host_network: bool = False
    host_pid: bool = msgspec.field(name="hostPID", default=False)
    host_ipc: bool = msgspec.field(name="hostIPC", default=False)
    share_process_namespace: bool = False
    host_users: bool = True
    hostname: str = ""
    hostname_override: str = ""
    dns_policy: str = "ClusterFirst"
    dns_config: DnsConfig | None = None
    security_context: PodSecurityContext = PodSecurityContext()
    image_pull_secrets: list[LocalReference] = []
    runtime_class_name: str = ""


class PodCondition(_View, frozen=True):
    """A condition that was told of the pod."""

    type: str
    status: str


class PodStatus(_View, frozen=True):
    """What is read of a status that was told before."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: list[PodCondition] = []


class Pod(_View, frozen=True):
    """A pod.

    Attributes:
        raw: the object as it came, for what is copied and not understood.
        version: in which it came; None for a pod from a file of the node.
    """

    metadata: ObjectMeta
    spec: PodSpec
    raw: JsonObject = {}
    version: Version | None = None

    @property
    def key(self) -> ObjectKey:
        """The pod's key."""
        return ObjectKey("pods", self.metadata.namespace, self.metadata.name)

    @property
    def all_containers(self) -> list[Container]:
        """Init, ordinary and ephemeral containers; their names differ."""
        spec = self.spec
        return [*spec.init_containers, *spec.containers, *spec.ephemeral_containers]

    def find_container(self, name: str) -> Container | None:
        """Return the container, of whatever sort, called ``name``."""
        return next((each for each in self.all_containers if each.name == name), None)

    @property
    def is_deleted(self) -> bool:
        """Whether its deletion was asked for."""
        return self.metadata.deletion_timestamp is not None

    @property
    def has_ended(self) -> bool:
        """Whether the cluster holds that it has ended for good."""
        return (self.raw.get("status") or {}).get("phase") in {"Succeeded", "Failed"}

    @property
    def grace_seconds(self) -> int:
        """How long its containers have to end."""
        asked = self.metadata.deletion_grace_period_seconds
        return self.spec.termination_grace_period_seconds if asked is None else asked


def read_pod(obj: JsonObject, version: Version | None = None) -> Pod:
    """Return the typed pod, as of ``version``.

    Raises:
        ValueError: a field that edged uses has the wrong type; the text names it.
    """

    def without_nulls(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without_nulls(v) for k, v in value.items() if v is not None}
        return [without_nulls(v) for v in value] if isinstance(value, list) else value

    try:
        pod = msgspec.convert(
            {
                **without_nulls({"metadata": obj.get("metadata"), "spec": obj.get("spec")}),
                "raw": obj,
            },
            Pod,
        )
        msgspec.convert(without_nulls(obj.get("status") or {}), PodStatus)
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc)) from exc
    if not pod.metadata.uid:
        raise ValueError("metadata.uid is missing")
    _check_names(pod)
    return msgspec.structs.replace(pod, version=version)


def _check_names(pod: Pod) -> None:
    """Make sure of names that become those of folders and files: none may lead elsewhere.

    Raises:
        ValueError: one of them is no name.
    """
    meta = pod.metadata
    names = {"uid": meta.uid, "name": meta.name, "namespace": meta.namespace}
    for field, name in names.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"metadata.{field} {name[:64]!r} is no name")
    for kind, parts in (("container", pod.all_containers), ("volume", pod.spec.volumes)):
        for each in parts:
            if not _NAME.fullmatch(each.name):
                raise ValueError(f"name {each.name[:64]!r} of a {kind} is no name")
