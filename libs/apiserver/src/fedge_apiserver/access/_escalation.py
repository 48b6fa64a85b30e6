"""Nobody can give what they do not have.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
"""

from collections.abc import Iterator
from itertools import product

from fedge_apiserver.access._attributes import Attributes
from fedge_apiserver.access._rbac import Authorizer
from fedge_apiserver.access._users import User
from fedge_apiserver.errors import ApiError, forbidden
from fedge_apiserver.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ROLE_BINDINGS,
    ROLES,
    Resource,
)
from fedge_objects import JsonObject


def check_escalation(
    authorizer: Authorizer,
    user: User,
    resource: Resource,
    old: JsonObject | None,
    new: JsonObject,
) -> None:
    """Refuse a role or a binding that gives more than its writer has.

    Args:
        authorizer: knows what the writer has.
        user: the writer.
        resource: what is written.
        old: its state before; None for a new one.
        new: its state to be.

    Raises:
        ApiError: 403.
    """
    name, namespace = new["metadata"]["name"], new["metadata"].get("namespace", "")
    if resource in (ROLES, CLUSTER_ROLES):
        if old is not None and _content(old) == _content(new):
            return
        if _may(authorizer, user, "escalate", resource, namespace, name):
            return
        rules = new.get("rules") or []
        if resource is CLUSTER_ROLES and new.get("aggregationRule"):
            # It will come to hold rules that nobody knows yet.
            rules = [*rules, {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    elif resource in (ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS):
        if old is not None and old.get("subjects") == new.get("subjects"):
            return
        reference = new["roleRef"]
        role = CLUSTER_ROLES if reference.get("kind") == "ClusterRole" else ROLES
        if _may(authorizer, user, "bind", role, namespace, str(reference.get("name"))):
            return
        rules = authorizer.rules_of(reference, namespace)
    else:
        return
    missing = [
        rule
        for rule in rules
        if not all(authorizer.decide(user, asked).allowed for asked in _asked(rule, namespace))
    ]
    if missing:
        raise _refused(resource, name, user, missing)


def _content(role: JsonObject) -> tuple[object, object]:
    return role.get("rules"), role.get("aggregationRule")


def _may(
    authorizer: Authorizer, user: User, verb: str, resource: Resource, namespace: str, name: str
) -> bool:
    asked = Attributes(
        verb=verb, group=resource.group, resource=resource.plural, namespace=namespace, name=name
    )
    return authorizer.decide(user, asked).allowed


def _asked(rule: JsonObject, namespace: str) -> Iterator[Attributes]:
    """Yield all that a rule allows, each as one request; ``*`` stands for itself."""
    verbs = rule.get("verbs") or ()
    for verb, url in product(verbs, rule.get("nonResourceURLs") or ()):
        yield Attributes(verb=verb, path=url)
    for verb, group, what, name in product(
        verbs,
        rule.get("apiGroups") or (),
        rule.get("resources") or (),
        rule.get("resourceNames") or ("",),
    ):
        resource, _, subresource = str(what).partition("/")
        yield Attributes(
            verb=verb,
            group=group,
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
        )


def _refused(resource: Resource, name: str, user: User, missing: list[JsonObject]) -> ApiError:
    groups = " ".join(f'"{group}"' for group in user.groups)
    lines = "\n".join(_shown(rule) for rule in missing)
    return forbidden(
        resource,
        name,
        f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not '
        f"currently held:\n{lines}",
    )


def _shown(rule: JsonObject) -> str:
    fields = (
        ("NonResourceURLs", "nonResourceURLs"),
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("ResourceNames", "resourceNames"),
        ("Verbs", "verbs"),
    )
    texts = [
        f"{shown}:[" + ", ".join(f'"{item}"' for item in rule[field]) + "]"
        for shown, field in fields
        if rule.get(field)
    ]
    return "{" + ", ".join(texts) + "}"
