"""The roles that every cluster has.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings
"""

from typing import Final

from fedge_apiserver.errors import ApiError
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, RBAC_GROUP, Resource
from fedge_objects import JsonObject

_LABELS: Final = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_UPDATE: Final = "rbac.authorization.kubernetes.io/autoupdate"
_AGGREGATE: Final = "rbac.authorization.k8s.io/aggregate-to-"
_READ: Final = ["get", "list", "watch"]
_WRITE: Final = ["create", "delete", "deletecollection", "patch", "update"]
_WORKLOADS: Final = (
    "daemonsets",
    "deployments",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "statefulsets/scale",
)
_BATCH: Final = ("cronjobs", "cronjobs/status", "jobs", "jobs/status")
_DEVICES: Final = "devices.kubeedge.io"


def _rule(verbs: list[str], *resources: str, group: str = "") -> JsonObject:
    return {"apiGroups": [group], "resources": list(resources), "verbs": verbs}


_SHOWN: Final = (
    _rule(
        _READ,
        "configmaps",
        "events",
        "namespaces",
        "pods",
        "pods/log",
        "pods/status",
        "serviceaccounts",
    ),
    _rule(_READ, "events", group="events.k8s.io"),
    _rule(_READ, "poddisruptionbudgets", "poddisruptionbudgets/status", group="policy"),
    _rule(_READ, "controllerrevisions", *_WORKLOADS, group="apps"),
    _rule(_READ, *_BATCH, group="batch"),
    _rule(_READ, "*", group=_DEVICES),
)
_EDITED: Final = (
    _rule(_WRITE, "configmaps", "events", "pods", "secrets", "serviceaccounts"),
    _rule(_READ, "secrets"),
    _rule(["create", "get"], "pods/exec", "pods/attach", "pods/portforward", "pods/proxy"),
    _rule(["create"], "pods/eviction", "serviceaccounts/token"),
    _rule(["impersonate"], "serviceaccounts"),
    _rule([*_READ, *_WRITE], "leases", group="coordination.k8s.io"),
    _rule(_WRITE, "poddisruptionbudgets", group="policy"),
    _rule(_WRITE, *_WORKLOADS, group="apps"),
    _rule(_WRITE, "cronjobs", "jobs", group="batch"),
    _rule(_WRITE, "*", group=_DEVICES),
)
_ADMINISTERED: Final = (
    _rule(["create"], "localsubjectaccessreviews", group="authorization.k8s.io"),
    _rule([*_READ, *_WRITE], "roles", "rolebindings", group=RBAC_GROUP),
)
_DISCOVERY_PATHS: Final = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]
_HEALTH_PATHS: Final = ["/healthz", "/livez", "/readyz", "/version", "/version/"]

_ROLES: Final[dict[str, tuple[JsonObject, ...]]] = {
    "cluster-admin": (_rule(["*"], "*", group="*"), {"nonResourceURLs": ["*"], "verbs": ["*"]}),
    "system:aggregate-to-view": _SHOWN,
    "system:aggregate-to-edit": _EDITED,
    "system:aggregate-to-admin": _ADMINISTERED,
    "system:discovery": (
        {"nonResourceURLs": [*_DISCOVERY_PATHS, *_HEALTH_PATHS], "verbs": ["get"]},
    ),
    "system:public-info-viewer": ({"nonResourceURLs": list(_HEALTH_PATHS), "verbs": ["get"]},),
    "system:basic-user": (
        _rule(
            ["create"],
            "selfsubjectaccessreviews",
            "selfsubjectrulesreviews",
            group="authorization.k8s.io",
        ),
        _rule(["create"], "selfsubjectreviews", group="authentication.k8s.io"),
    ),
    "system:auth-delegator": (
        _rule(["create"], "tokenreviews", group="authentication.k8s.io"),
        _rule(["create"], "subjectaccessreviews", group="authorization.k8s.io"),
    ),
    "system:service-account-issuer-discovery": (
        {
            "nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"],
            "verbs": ["get"],
        },
    ),
}
_PART_OF: Final = {"view": "edit", "edit": "admin", "admin": None}
"""The user-facing roles, with the one that holds all of it too."""
_BINDINGS: Final = {
    "cluster-admin": ("cluster-admin", "system:masters"),
    "system:discovery": ("system:discovery", "system:authenticated"),
    "system:public-info-viewer": ("system:public-info-viewer", "system:authenticated"),
    "system:basic-user": ("system:basic-user", "system:authenticated"),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery",
        "system:serviceaccounts",
    ),
}


async def bootstrap_roles(registry: Registry) -> None:
    """Make the default roles and bindings that are not there; mend rules that an upgrade changed.

    A role with the annotation ``rbac.authorization.kubernetes.io/autoupdate: "false"`` is left as
    it is.
    """
    for name, rules in _ROLES.items():
        labels = dict(_LABELS)
        if name.startswith("system:aggregate-to-"):
            labels[_AGGREGATE + name.removeprefix("system:aggregate-to-")] = "true"
        await _ensure(registry, CLUSTER_ROLES, _object("ClusterRole", name, labels, rules=rules))
    for name, bigger in _PART_OF.items():
        labels = dict(_LABELS)
        if bigger is not None:
            labels[_AGGREGATE + bigger] = "true"
        selector = {"matchLabels": {f"{_AGGREGATE}{name}": "true"}}
        role = _object("ClusterRole", name, labels)
        role["aggregationRule"] = {"clusterRoleSelectors": [selector]}
        await _ensure(registry, CLUSTER_ROLES, role)
    for name, (role_name, group) in _BINDINGS.items():
        binding = _object("ClusterRoleBinding", name, dict(_LABELS))
        binding["roleRef"] = {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": role_name}
        binding["subjects"] = [{"apiGroup": RBAC_GROUP, "kind": "Group", "name": group}]
        await _ensure(registry, CLUSTER_ROLE_BINDINGS, binding)


def _object(
    kind: str, name: str, labels: dict[str, str], rules: tuple[JsonObject, ...] | None = None
) -> JsonObject:
    metadata = {"name": name, "labels": labels, "annotations": {_UPDATE: "true"}}
    value: JsonObject = {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": kind,
        "metadata": metadata,
    }
    if rules is not None:
        value["rules"] = [dict(rule) for rule in rules]
    return value


async def _ensure(registry: Registry, resource: Resource, wanted: JsonObject) -> None:
    name = wanted["metadata"]["name"]
    held = registry.read(resource, "", name)
    if held is None:
        try:
            await registry.create(resource, "", wanted)
        except ApiError as exc:
            if exc.reason != "AlreadyExists":
                raise
        return
    annotations = held["metadata"].get("annotations") or {}
    fields = ("rules",) if "rules" in wanted else ("aggregationRule",)
    is_ours = resource is CLUSTER_ROLES and annotations.get(_UPDATE) == "true"
    if is_ours and any(held.get(field) != wanted.get(field) for field in fields):
        mended = {field: wanted[field] for field in fields if field in wanted}
        await registry.update(resource, "", name, lambda old: {**old, **mended})
