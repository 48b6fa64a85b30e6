"""The resources that are served: a table, not code per kind.

Built-in resources stand in ``BUILTIN``; a CustomResourceDefinition adds rows while the server
runs. What differs between kinds beyond the table lies in ``kinds`` (rules) and ``tables``
(columns), found by the resource's storage name.

https://kubernetes.io/docs/reference/using-api/api-concepts/#standard-api-terminology
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from fedge_apiserver.rules import RuleTree
from fedge_objects import JsonObject

ALL_VERBS: Final = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
)


REPLICAS: Final[JsonObject] = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
}
"""Where built-in kinds keep their numbers; the selector is theirs, not a text in the status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource in one version.

    Attributes:
        group: API group, empty for the core.
        version: e.g. ``v1``.
        plural: the name in paths.
        kind: the name in objects.
        namespaced: whether its objects lie in namespaces.
        storage: plural and group under which objects are stored; one for all versions.
        schema: the built-in type that describes its fields; None for a custom resource.
        singular, short_names, categories: as discovery tells them.
        subresources: names of those it has, e.g. ``status``.
        verbs: what may be done; ``create`` only for reviews.
        selectable: fields that a field selector may name, beside name and namespace.
        structural: a custom resource's OpenAPI schema.
        columns: a custom resource's ``additionalPrinterColumns``.
        scale: of what has a scale, the paths of its numbers: ``specReplicasPath`` and so on.
        rules: a custom resource's validation rules; None if it has none.
        converts: what is stored may look different from what is served.
    """

    group: str = ""
    version: str = "v1"
    plural: str
    kind: str
    namespaced: bool = True
    storage: str = ""
    schema: str | None = None
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    selectable: tuple[str, ...] = ()
    structural: JsonObject | None = None
    columns: tuple[JsonObject, ...] = ()
    scale: JsonObject | None = None
    rules: RuleTree | None = None
    converts: bool = False

    @property
    def api_version(self) -> str:
        """``apiVersion`` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        """Kind of its lists."""
        return f"{self.kind}List"

    @property
    def is_custom(self) -> bool:
        """Whether a CustomResourceDefinition made it."""
        return self.schema is None

    @property
    def has_status(self) -> bool:
        """Whether status is written apart from the rest."""
        return "status" in self.subresources


_POD_FIELDS = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
)
_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)

PODS: Final = Resource(
    plural="pods",
    kind="Pod",
    storage="pods",
    schema="Pod",
    singular="pod",
    short_names=("po",),
    categories=("all",),
    subresources=("status", "binding", "eviction", "log", "exec", "ephemeralcontainers"),
    selectable=_POD_FIELDS,
)
NODES: Final = Resource(
    plural="nodes",
    kind="Node",
    namespaced=False,
    storage="nodes",
    schema="Node",
    singular="node",
    short_names=("no",),
    subresources=("status", "proxy"),
    selectable=("spec.unschedulable",),
)
NAMESPACES: Final = Resource(
    plural="namespaces",
    kind="Namespace",
    namespaced=False,
    storage="namespaces",
    schema="Namespace",
    singular="namespace",
    short_names=("ns",),
    subresources=("status", "finalize"),
    verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
    selectable=("status.phase",),
)
CONFIG_MAPS: Final = Resource(
    plural="configmaps",
    kind="ConfigMap",
    storage="configmaps",
    schema="ConfigMap",
    singular="configmap",
    short_names=("cm",),
)
SECRETS: Final = Resource(
    plural="secrets",
    kind="Secret",
    storage="secrets",
    schema="Secret",
    singular="secret",
    selectable=("type",),
)
SERVICE_ACCOUNTS: Final = Resource(
    plural="serviceaccounts",
    kind="ServiceAccount",
    storage="serviceaccounts",
    schema="ServiceAccount",
    singular="serviceaccount",
    short_names=("sa",),
)
EVENTS: Final = Resource(
    plural="events",
    kind="Event",
    storage="events",
    schema="CoreV1Event",
    singular="event",
    short_names=("ev",),
    selectable=_EVENT_FIELDS,
)
NEW_EVENTS: Final = Resource(
    group="events.k8s.io",
    plural="events",
    kind="Event",
    storage="events",
    schema="EventsV1Event",
    singular="event",
    short_names=("ev",),
    selectable=_EVENT_FIELDS,
    converts=True,
)
LEASES: Final = Resource(
    group="coordination.k8s.io",
    plural="leases",
    kind="Lease",
    storage="leases.coordination.k8s.io",
    schema="Lease",
    singular="lease",
)
DEFINITIONS: Final = Resource(
    group="apiextensions.k8s.io",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
    storage="customresourcedefinitions.apiextensions.k8s.io",
    schema="CustomResourceDefinition",
    singular="customresourcedefinition",
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    subresources=("status",),
)
ACCESS_REVIEWS: Final = Resource(
    group="authorization.k8s.io",
    plural="subjectaccessreviews",
    kind="SubjectAccessReview",
    namespaced=False,
    schema="SubjectAccessReview",
    singular="subjectaccessreview",
    verbs=("create",),
)
SELF_ACCESS_REVIEWS: Final = Resource(
    group="authorization.k8s.io",
    plural="selfsubjectaccessreviews",
    kind="SelfSubjectAccessReview",
    namespaced=False,
    schema="SelfSubjectAccessReview",
    singular="selfsubjectaccessreview",
    verbs=("create",),
)
LOCAL_ACCESS_REVIEWS: Final = Resource(
    group="authorization.k8s.io",
    plural="localsubjectaccessreviews",
    kind="LocalSubjectAccessReview",
    schema="LocalSubjectAccessReview",
    singular="localsubjectaccessreview",
    verbs=("create",),
)
SELF_RULES_REVIEWS: Final = Resource(
    group="authorization.k8s.io",
    plural="selfsubjectrulesreviews",
    kind="SelfSubjectRulesReview",
    namespaced=False,
    schema="SelfSubjectRulesReview",
    singular="selfsubjectrulesreview",
    verbs=("create",),
)
TOKEN_REVIEWS: Final = Resource(
    group="authentication.k8s.io",
    plural="tokenreviews",
    kind="TokenReview",
    namespaced=False,
    schema="TokenReview",
    singular="tokenreview",
    verbs=("create",),
)
SELF_REVIEWS: Final = Resource(
    group="authentication.k8s.io",
    plural="selfsubjectreviews",
    kind="SelfSubjectReview",
    namespaced=False,
    schema="SelfSubjectReview",
    singular="selfsubjectreview",
    verbs=("create",),
)
RBAC_GROUP: Final = "rbac.authorization.k8s.io"
ROLES: Final = Resource(
    group=RBAC_GROUP,
    plural="roles",
    kind="Role",
    storage=f"roles.{RBAC_GROUP}",
    schema="Role",
    singular="role",
)
ROLE_BINDINGS: Final = Resource(
    group=RBAC_GROUP,
    plural="rolebindings",
    kind="RoleBinding",
    storage=f"rolebindings.{RBAC_GROUP}",
    schema="RoleBinding",
    singular="rolebinding",
)
CLUSTER_ROLES: Final = Resource(
    group=RBAC_GROUP,
    plural="clusterroles",
    kind="ClusterRole",
    namespaced=False,
    storage=f"clusterroles.{RBAC_GROUP}",
    schema="ClusterRole",
    singular="clusterrole",
)
CLUSTER_ROLE_BINDINGS: Final = Resource(
    group=RBAC_GROUP,
    plural="clusterrolebindings",
    kind="ClusterRoleBinding",
    namespaced=False,
    storage=f"clusterrolebindings.{RBAC_GROUP}",
    schema="ClusterRoleBinding",
    singular="clusterrolebinding",
)
DEPLOYMENTS: Final = Resource(
    group="apps",
    plural="deployments",
    kind="Deployment",
    storage="deployments.apps",
    schema="Deployment",
    singular="deployment",
    short_names=("deploy",),
    categories=("all",),
    subresources=("status", "scale"),
    scale=REPLICAS,
)
REPLICA_SETS: Final = Resource(
    group="apps",
    plural="replicasets",
    kind="ReplicaSet",
    storage="replicasets.apps",
    schema="ReplicaSet",
    singular="replicaset",
    short_names=("rs",),
    categories=("all",),
    subresources=("status", "scale"),
    scale=REPLICAS,
    selectable=("status.replicas",),
)
DAEMON_SETS: Final = Resource(
    group="apps",
    plural="daemonsets",
    kind="DaemonSet",
    storage="daemonsets.apps",
    schema="DaemonSet",
    singular="daemonset",
    short_names=("ds",),
    categories=("all",),
    subresources=("status",),
)
STATEFUL_SETS: Final = Resource(
    group="apps",
    plural="statefulsets",
    kind="StatefulSet",
    storage="statefulsets.apps",
    schema="StatefulSet",
    singular="statefulset",
    short_names=("sts",),
    categories=("all",),
    subresources=("status", "scale"),
    scale=REPLICAS,
)
CONTROLLER_REVISIONS: Final = Resource(
    group="apps",
    plural="controllerrevisions",
    kind="ControllerRevision",
    storage="controllerrevisions.apps",
    schema="ControllerRevision",
    singular="controllerrevision",
)
JOBS: Final = Resource(
    group="batch",
    plural="jobs",
    kind="Job",
    storage="jobs.batch",
    schema="Job",
    singular="job",
    categories=("all",),
    subresources=("status",),
)
CRON_JOBS: Final = Resource(
    group="batch",
    plural="cronjobs",
    kind="CronJob",
    storage="cronjobs.batch",
    schema="CronJob",
    singular="cronjob",
    short_names=("cj",),
    categories=("all",),
    subresources=("status",),
)
DISRUPTION_BUDGETS: Final = Resource(
    group="policy",
    plural="poddisruptionbudgets",
    kind="PodDisruptionBudget",
    storage="poddisruptionbudgets.policy",
    schema="PodDisruptionBudget",
    singular="poddisruptionbudget",
    short_names=("pdb",),
    subresources=("status",),
)

BUILTIN: Final = (
    CONFIG_MAPS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    DEFINITIONS,
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    DEPLOYMENTS,
    REPLICA_SETS,
    STATEFUL_SETS,
    CRON_JOBS,
    JOBS,
    TOKEN_REVIEWS,
    SELF_REVIEWS,
    ACCESS_REVIEWS,
    LOCAL_ACCESS_REVIEWS,
    SELF_ACCESS_REVIEWS,
    SELF_RULES_REVIEWS,
    ROLES,
    ROLE_BINDINGS,
    CLUSTER_ROLES,
    CLUSTER_ROLE_BINDINGS,
    DISRUPTION_BUDGETS,
    LEASES,
    NEW_EVENTS,
)


@dataclass(slots=True)
class Catalog:
    """The resources served now, by group, version and plural."""

    _resources: dict[tuple[str, str, str], Resource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for resource in BUILTIN:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Serve a resource, in place of one at the same path."""
        self._resources[resource.group, resource.version, resource.plural] = resource

    def remove(self, group: str, plural: str) -> None:
        """Serve a resource no longer, in no version."""
        for key in [k for k in self._resources if k[0] == group and k[2] == plural]:
            del self._resources[key]

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return what is served at a path, or None."""
        return self._resources.get((group, version, plural))

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._resources.values()))

    def stored(self) -> dict[str, Resource]:
        """Return one resource, of any version, for each storage name."""
        found: dict[str, Resource] = {}
        for resource in self._resources.values():
            if resource.storage:
                found.setdefault(resource.storage, resource)
        return found

    def versions(self) -> dict[str, list[str]]:
        """Return the versions of each group, the preferred one first."""
        found: dict[str, list[str]] = {}
        for group, version, _ in self._resources:
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        for versions in found.values():
            versions.sort(key=version_rank, reverse=True)
        return found


def version_rank(version: str) -> tuple[int, int, int]:
    """Return a sort key: stable above beta above alpha, then the higher number.

    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority
    """
    text = version.removeprefix("v")
    for rank, mark in ((1, "alpha"), (2, "beta")):
        major, found, minor = text.partition(mark)
        if found and major.isdecimal():
            return rank, int(major), int(minor) if minor.isdecimal() else 0
    return (3, int(text), 0) if text.isdecimal() else (0, 0, 0)
