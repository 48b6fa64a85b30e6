"""Role-based access control over the stored roles and bindings.

What a user's bindings grant is worked out once per namespace and kept until a role or a binding
changes.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fedge_apiserver.access._attributes import Attributes
from fedge_apiserver.access._users import ACCOUNT_PREFIX, MASTERS, User
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    RBAC_GROUP,
    ROLE_BINDINGS,
    ROLES,
    Resource,
)
from fedge_apiserver.store import Event
from fedge_objects import JsonObject

_MOST_KEPT: Final = 1000
_SUFFIX: Final = f".{RBAC_GROUP}"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether somebody may do something, and why."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """One rule that a binding gives to a user."""

    rule: JsonObject
    reason: str


_EVERYTHING: Final = (
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
)
_DENIED: Final = Decision(allowed=False)
_MASTER: Final = Decision(allowed=True, reason=f"the group {MASTERS} may do everything")


class Authorizer:
    """Decides by the roles that are stored."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._kept: dict[tuple[str, tuple[str, ...], str], tuple[Grant, ...]] = {}
        registry.store.observers.append(self._observe)

    def decide(self, user: User, attributes: Attributes) -> Decision:
        """Return whether a user may do something."""
        if MASTERS in user.groups:
            return _MASTER
        for grant in self.grants(user, attributes.namespace):
            if allows(grant.rule, attributes):
                return Decision(allowed=True, reason=grant.reason)
        return _DENIED

    def grants(self, user: User, namespace: str) -> tuple[Grant, ...]:
        """Return what a user's bindings give in a namespace; empty: what they give everywhere."""
        key = (user.name, user.groups, namespace)
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            found = self._kept[key] = tuple(self._find(user, namespace))
        return found

    def rules_for(self, user: User, namespace: str) -> list[JsonObject]:
        """Return the rules that hold for a user in a namespace."""
        if MASTERS in user.groups:
            return [dict(rule) for rule in _EVERYTHING]
        return [grant.rule for grant in self.grants(user, namespace)]

    def rules_of(self, reference: JsonObject, namespace: str) -> list[JsonObject]:
        """Return the rules of the role that a ``roleRef`` names; none if it is not there."""
        if reference.get("kind") == "ClusterRole":
            role = self._registry.read(CLUSTER_ROLES, "", str(reference.get("name", "")))
        else:
            role = self._registry.read(ROLES, namespace, str(reference.get("name", "")))
        return list((role or {}).get("rules") or ())

    def _observe(self, event: Event) -> None:
        if event.entry.resource.endswith(_SUFFIX):
            self._kept.clear()

    def _find(self, user: User, namespace: str) -> Iterator[Grant]:
        yield from self._granted(user, CLUSTER_ROLE_BINDINGS, "")
        if namespace:
            yield from self._granted(user, ROLE_BINDINGS, namespace)

    def _granted(self, user: User, bindings: Resource, namespace: str) -> Iterator[Grant]:
        for binding in self._registry.objects(bindings, namespace):
            subject = next(
                (s for s in binding.get("subjects") or () if _is(user, s, namespace)), None
            )
            if subject is None:
                continue
            reference = binding["roleRef"]
            name = binding["metadata"]["name"]
            shown = f"{namespace}/{name}" if namespace else name
            reason = (
                f'RBAC: allowed by {bindings.kind} "{shown}" of {reference.get("kind")} '
                f'"{reference.get("name")}" to {subject.get("kind")} "{_shown(subject)}"'
            )
            for rule in self.rules_of(reference, namespace):
                yield Grant(rule, reason)


def allows(rule: JsonObject, attributes: Attributes) -> bool:
    """Return whether one rule lets a request through."""
    if not _has(rule, "verbs", attributes.verb):
        return False
    if attributes.path:
        return any(
            attributes.path.startswith(url[:-1]) if url.endswith("*") else attributes.path == url
            for url in rule.get("nonResourceURLs") or ()
        )
    if not _has(rule, "apiGroups", attributes.group):
        return False
    names = rule.get("resourceNames")
    if names and attributes.name not in names:
        return False
    wanted = attributes.full_resource
    any_of_these = f"*/{attributes.subresource}" if attributes.subresource else None
    return any(held in ("*", wanted, any_of_these) for held in rule.get("resources") or ())


def _has(rule: JsonObject, field: str, value: str) -> bool:
    held = rule.get(field) or ()
    return value in held or "*" in held


def _is(user: User, subject: JsonObject, namespace: str) -> bool:
    match subject.get("kind"):
        case "User":
            return bool(subject.get("name") == user.name)
        case "Group":
            return subject.get("name") in user.groups
        case "ServiceAccount":
            where = subject.get("namespace") or namespace
            return user.name == f"{ACCOUNT_PREFIX}{where}:{subject.get('name')}"
        case _:
            return False


def _shown(subject: JsonObject) -> str:
    name = str(subject.get("name", ""))
    if subject.get("kind") == "ServiceAccount":
        return f"{name}/{subject.get('namespace', '')}"
    return name
