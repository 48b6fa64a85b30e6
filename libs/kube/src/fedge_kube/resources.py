"""Where the resources lie that fedge deals with.

https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource type of the API.

    Attributes:
        group: empty for the core group.
        version: e.g. ``v1``.
        plural: e.g. ``pods``.
        namespaced: whether its objects lie in namespaces.
    """

    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def name(self) -> str:
        """Plural and group: ``pods``, ``leases.coordination.k8s.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of all objects, those of a namespace, or one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        one = f"/{quote(name, safe='')}" if name else ""
        sub = f"/{subresource}" if subresource else ""
        return f"{root}{scope}/{self.plural}{one}{sub}"


PODS: Final = Resource("", "v1", "pods")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps")
SECRETS: Final = Resource("", "v1", "secrets")
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts")
EVENTS: Final = Resource("", "v1", "events")
NAMESPACES: Final = Resource("", "v1", "namespaces", namespaced=False)
NODES: Final = Resource("", "v1", "nodes", namespaced=False)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")
CUSTOM_RESOURCE_DEFINITIONS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False
)
_RBAC: Final = "rbac.authorization.k8s.io"
ROLES: Final = Resource(_RBAC, "v1", "roles")
ROLE_BINDINGS: Final = Resource(_RBAC, "v1", "rolebindings")
CLUSTER_ROLES: Final = Resource(_RBAC, "v1", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDINGS: Final = Resource(_RBAC, "v1", "clusterrolebindings", namespaced=False)
