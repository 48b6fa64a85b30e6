"""Roles and bindings.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from typing import Any, Final

from fedge_apiserver.errors import Causes
from fedge_apiserver.kinds._metadata import check_path_segment
from fedge_apiserver.kinds._rules import Rules
from fedge_objects import JsonObject

_GROUP: Final = "rbac.authorization.k8s.io"
_SUBJECTS: Final = ("ServiceAccount", "User", "Group")


def _default_role(value: JsonObject) -> None:
    if not value.get("aggregationRule"):
        value.setdefault("rules", [])


def _check_rules(value: JsonObject, causes: Causes, *, is_cluster: bool) -> None:
    for index, rule in enumerate(value.get("rules") or ()):
        path = f"rules[{index}]"
        if not rule.get("verbs"):
            causes.required(f"{path}.verbs", "verbs must contain at least one value")
        if urls := rule.get("nonResourceURLs"):
            if not is_cluster:
                causes.invalid(
                    f"{path}.nonResourceURLs",
                    urls,
                    "namespaced rules cannot apply to non-resource URLs",
                )
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                causes.invalid(
                    f"{path}.nonResourceURLs",
                    urls,
                    "rules cannot apply to both regular resources and non-resource URLs",
                )
            continue
        if not rule.get("apiGroups"):
            causes.required(
                f"{path}.apiGroups", "resource rules must supply at least one api group"
            )
        if not rule.get("resources"):
            causes.required(f"{path}.resources", "resource rules must supply at least one resource")


def _check_role(value: JsonObject, causes: Causes) -> None:
    _check_rules(value, causes, is_cluster=False)


def _check_cluster_role(value: JsonObject, causes: Causes) -> None:
    _check_rules(value, causes, is_cluster=True)
    rule = value.get("aggregationRule")
    if rule is not None and not rule.get("clusterRoleSelectors"):
        causes.required(
            "aggregationRule.clusterRoleSelectors", "at least one clusterRoleSelector required"
        )


def _default_binding(value: JsonObject) -> None:
    reference: dict[str, Any] = value.setdefault("roleRef", {})
    reference.setdefault("apiGroup", _GROUP)
    for subject in value.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", _GROUP)


def _check_binding(value: JsonObject, causes: Causes) -> None:
    reference = value["roleRef"]
    kinds = ("Role", "ClusterRole") if value["kind"] == "RoleBinding" else ("ClusterRole",)
    if reference["apiGroup"] != _GROUP:
        causes.not_supported("roleRef.apiGroup", reference["apiGroup"], (_GROUP,))
    if reference.get("kind") not in kinds:
        causes.not_supported("roleRef.kind", reference.get("kind", ""), kinds)
    if not reference.get("name"):
        causes.required("roleRef.name")
    for index, subject in enumerate(value.get("subjects") or ()):
        _check_subject(
            subject, f"subjects[{index}]", causes, is_cluster=value["kind"] != "RoleBinding"
        )


def _check_subject(subject: JsonObject, path: str, causes: Causes, *, is_cluster: bool) -> None:
    kind = subject.get("kind", "")
    if not subject.get("name"):
        causes.required(f"{path}.name")
    if kind not in _SUBJECTS:
        causes.not_supported(f"{path}.kind", kind, _SUBJECTS)
        return
    group = "" if kind == "ServiceAccount" else _GROUP
    if subject.get("apiGroup", "") != group:
        causes.not_supported(f"{path}.apiGroup", subject.get("apiGroup", ""), (group,))
    if kind == "ServiceAccount" and is_cluster and not subject.get("namespace"):
        causes.required(f"{path}.namespace")


def _check_binding_update(new: JsonObject, old: JsonObject, causes: Causes) -> None:
    if new["roleRef"] != old["roleRef"]:
        causes.invalid("roleRef", new["roleRef"], "cannot change roleRef")


ROLE_RULES: Final = Rules(default=_default_role, check=_check_role, check_name=check_path_segment)
CLUSTER_ROLE_RULES: Final = Rules(
    default=_default_role, check=_check_cluster_role, check_name=check_path_segment
)
BINDING_RULES: Final = Rules(
    default=_default_binding,
    check=_check_binding,
    check_update=_check_binding_update,
    check_name=check_path_segment,
)
