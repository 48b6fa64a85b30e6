"""Roles and bindings: what decides at the edge who may do what there.

A node is given the bindings that are about somebody who may ask its API: the accounts of its pods,
the groups that these are in, and the account of whoever is root there; and the roles that those
name. What a namespace's roles let such an account read goes along: a program finds at the edge,
with the cloud away, what it may read, and whole lists of it.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from collections.abc import Iterator
from typing import Any, Final

from fedge_controller.kinds.followers import Follower, collection
from fedge_dispatch import group_key
from fedge_kube import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
)
from fedge_objects import JsonObject, ObjectKey

_USER: Final = "user"
_EVERYBODY: Final = "system:authenticated"
_ACCOUNT: Final = "system:serviceaccount"
_ACCOUNTS: Final = "system:serviceaccounts"
_READING: Final = frozenset({"get", "list", "watch", "*"})
_READ_ALONG: Final = (CONFIG_MAPS, SECRETS)


def account_groups(namespace: str, name: str) -> frozenset[ObjectKey]:
    """Return the groups of bindings that are about a service account."""
    names = (
        f"{_ACCOUNT}:{namespace}:{name}",
        f"{_ACCOUNTS}:{namespace}",
        _ACCOUNTS,
        _EVERYBODY,
    )
    return frozenset(group_key(_USER, each) for each in names)


class _Binding(Follower):
    """Names a role and those who have it."""

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return the role."""
        reference = obj.get("roleRef") or {}
        name = str(reference.get("name") or "")
        if not name:
            return frozenset()
        if reference.get("kind") == "ClusterRole":
            return frozenset({ObjectKey(CLUSTER_ROLES.name, "", name)})
        namespace = obj["metadata"].get("namespace", "default")
        return frozenset({ObjectKey(ROLES.name, namespace, name)})

    def joins(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return whom it is about."""
        own = obj["metadata"].get("namespace", "")
        return frozenset(group_key(_USER, each) for each in _users(obj, own))


class RoleBindings(_Binding):
    """Gives rights in one namespace."""

    resource = ROLE_BINDINGS


class ClusterRoleBindings(_Binding):
    """Gives rights everywhere."""

    resource = CLUSTER_ROLE_BINDINGS


class Roles(Follower):
    """Rights in one namespace; what they let be read goes along."""

    resource = ROLES

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return the config maps and secrets that it lets be read, by name or all."""
        namespace = obj["metadata"].get("namespace", "default")
        return frozenset(_readable(obj, namespace))


class ClusterRoles(Follower):
    """Rights that bindings give in a namespace or everywhere.

    What they let be read does not go along: it may be the whole cluster.
    """

    resource = CLUSTER_ROLES


def _users(binding: JsonObject, own: str) -> Iterator[str]:
    for subject in binding.get("subjects") or ():
        name = str(subject.get("name") or "")
        if subject.get("kind") == "ServiceAccount":
            yield f"{_ACCOUNT}:{subject.get('namespace') or own}:{name}"
        elif subject.get("kind") in ("User", "Group") and name:
            yield name


def _readable(role: JsonObject, namespace: str) -> Iterator[ObjectKey]:
    for rule in role.get("rules") or ():
        said: dict[str, Any] = rule
        if not _READING & set(said.get("verbs") or ()):
            continue
        if not {"", "*"} & set(said.get("apiGroups") or ()):
            continue
        resources = set(said.get("resources") or ())
        for resource in _READ_ALONG:
            if not {resource.name, "*"} & resources:
                continue
            names = said.get("resourceNames") or ()
            if not names:
                yield collection(resource.name, namespace)
            yield from (ObjectKey(resource.name, namespace, str(each)) for each in names)
