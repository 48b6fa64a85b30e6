"""Kinds that a node needs because of its pods, and about which it reports nothing."""

from fedge_dispatch import Report, given_to_nodes, group_key
from fedge_kube import (
    CONFIG_MAPS,
    NAMESPACES,
    SECRETS,
    SERVICE_ACCOUNTS,
    KubeClient,
    RefusedError,
    Resource,
)
from fedge_objects import JsonObject, NodeName, ObjectKey


def collection(resource: str, namespace: str) -> ObjectKey:
    """Return the group of all objects of a resource in a namespace."""
    return group_key("all", resource, namespace)


class Follower:
    """An object that goes where something else needs it."""

    resource: Resource
    leads = False
    optional = False

    def node_of(self, obj: JsonObject) -> NodeName | None:  # noqa: ARG002 - the port's signature
        """Return None: it names no node."""
        return None

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:  # noqa: ARG002
        """Return nothing."""
        return frozenset()

    def for_node(self, obj: JsonObject) -> JsonObject:
        """Return the object without bookkeeping."""
        return given_to_nodes(obj)

    async def report(self, kube: KubeClient, report: Report) -> None:  # noqa: ARG002
        """Refuse: it has no status."""
        raise RefusedError(f"{report.key} has no status that a node could report")


class _Collected(Follower):
    """A follower that a role may let be read without naming it."""

    def joins(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return the group of all in its namespace."""
        return frozenset({collection(self.resource.name, obj["metadata"].get("namespace", ""))})


class ConfigMaps(_Collected):
    """https://kubernetes.io/docs/concepts/configuration/configmap/."""

    resource = CONFIG_MAPS


class Secrets(_Collected):
    """https://kubernetes.io/docs/concepts/configuration/secret/."""

    resource = SECRETS


class Namespaces(Follower):
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/."""

    resource = NAMESPACES


class ServiceAccounts(Follower):
    """https://kubernetes.io/docs/concepts/security/service-accounts/."""

    resource = SERVICE_ACCOUNTS

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return the pull secrets of the pods that run under it."""
        namespace = obj["metadata"].get("namespace", "default")
        return frozenset(
            ObjectKey("secrets", namespace, each["name"])
            for each in obj.get("imagePullSecrets") or ()
            if each.get("name")
        )
