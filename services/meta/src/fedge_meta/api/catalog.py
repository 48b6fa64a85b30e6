"""What the edge's API serves: the kinds that nodes are given, and no others.

A kind that is not there is answered with 404, as by a cluster that does not have it.
"""

from typing import Final

from fedge_apiserver.access import AUTHENTICATED, User, account_user
from fedge_apiserver.resources import (
    ACCESS_REVIEWS,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    EVENTS,
    LOCAL_ACCESS_REVIEWS,
    NAMESPACES,
    NEW_EVENTS,
    NODES,
    PODS,
    RBAC_GROUP,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SELF_ACCESS_REVIEWS,
    SELF_REVIEWS,
    SELF_RULES_REVIEWS,
    SERVICE_ACCOUNTS,
    TOKEN_REVIEWS,
    Catalog,
    Resource,
)
from fedge_devices import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, GROUP, VERSION
from fedge_fabric.writes import NODES_NAMESPACE
from fedge_objects import JsonObject, NodeName

_READER: Final = "fedge:node"
_SERVED: Final = (
    CONFIG_MAPS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
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
    NEW_EVENTS,
)


def _custom(storage: str, kind: str, **more: str) -> Resource:
    plural = storage.partition(".")[0]
    columns: tuple[JsonObject, ...] = tuple(
        {"name": name, "type": "string", "jsonPath": path} for name, path in more.items()
    )
    return Resource(
        group=GROUP,
        version=VERSION,
        plural=plural,
        kind=kind,
        storage=storage,
        singular=kind.lower(),
        structural={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        columns=columns,
    )


DEVICE_KINDS: Final = (
    _custom(DEVICES, "Device", Node=".spec.nodeName", Model=".spec.deviceModelRef.name"),
    _custom(DEVICE_MODELS, "DeviceModel", Protocol=".spec.protocol"),
    _custom(DEVICE_STATUSES, "DeviceStatus", State=".status.state"),
)


def edge_catalog() -> Catalog:
    """Return what is served at the edge."""
    catalog = Catalog()
    for resource in list(catalog):
        if resource not in _SERVED:
            catalog.remove(resource.group, resource.plural)
    for resource in (*_SERVED, *DEVICE_KINDS):
        catalog.add(resource)
    return catalog


def node_user(node: NodeName) -> User:
    """Return whoever is root at the gateway, as a user.

    It may read all that the node has, and write what the cluster's roles let it.
    """
    return account_user(NODES_NAMESPACE, node)


def own_roles(node: NodeName) -> list[tuple[Resource, JsonObject]]:
    """Return the roles that are the edge's own: discovery for all, reading for the node."""
    paths = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]
    own = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
    everybody: JsonObject = {"apiGroup": RBAC_GROUP, "kind": "Group", "name": AUTHENTICATED}
    root: JsonObject = {"kind": "ServiceAccount", "namespace": NODES_NAMESPACE, "name": node}
    rules: dict[str, tuple[JsonObject, list[JsonObject]]] = {
        "system:discovery": (everybody, [{"nonResourceURLs": paths, "verbs": ["get"]}]),
        "system:basic-user": (
            everybody,
            [
                _rule(["create"], own, "authorization.k8s.io"),
                _rule(["create"], ["selfsubjectreviews"], "authentication.k8s.io"),
            ],
        ),
        _READER: (
            root,
            [
                _rule(["get", "list", "watch"], ["*"], "*"),
                _rule(["create"], ["tokenreviews"], "authentication.k8s.io"),
                _rule(["create"], ["subjectaccessreviews"], "authorization.k8s.io"),
            ],
        ),
    }
    found: list[tuple[Resource, JsonObject]] = []
    for name, (subject, given) in rules.items():
        role = _object("ClusterRole", name)
        found.append((CLUSTER_ROLES, {**role, "rules": given}))
        binding = _object("ClusterRoleBinding", name)
        binding["roleRef"] = {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": name}
        binding["subjects"] = [subject]
        found.append((CLUSTER_ROLE_BINDINGS, binding))
    return found


def _rule(verbs: list[str], resources: list[str], group: str) -> JsonObject:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _object(kind: str, name: str) -> JsonObject:
    return {"apiVersion": f"{RBAC_GROUP}/v1", "kind": kind, "metadata": {"name": name}}
