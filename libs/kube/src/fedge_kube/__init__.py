"""The cloud's client of a Kubernetes API, over the official package's asynchronous client.

The only importer of ``kubernetes``. Objects are plain JSON: what a service hands on to a node must
not lose the fields that a model here does not know.
"""

from fedge_kube.client import STRATEGIC_MERGE_PATCH, KubeClient, Listing
from fedge_kube.errors import (
    ConflictError,
    ExpiredError,
    KubeError,
    NotFoundError,
    RefusedError,
    UnreachableError,
)
from fedge_kube.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from fedge_kube.watching import Changed, Listed, NotServed, Progressed, Removed, observe

__all__ = [
    "CLUSTER_ROLES",
    "CLUSTER_ROLE_BINDINGS",
    "CONFIG_MAPS",
    "CUSTOM_RESOURCE_DEFINITIONS",
    "EVENTS",
    "LEASES",
    "NAMESPACES",
    "NODES",
    "PODS",
    "ROLES",
    "ROLE_BINDINGS",
    "SECRETS",
    "SERVICE_ACCOUNTS",
    "STRATEGIC_MERGE_PATCH",
    "Changed",
    "ConflictError",
    "ExpiredError",
    "KubeClient",
    "KubeError",
    "Listed",
    "Listing",
    "NotFoundError",
    "NotServed",
    "Progressed",
    "RefusedError",
    "Removed",
    "Resource",
    "UnreachableError",
    "observe",
]
