"""Whether a pod may run on a node: pure rules.

https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity
"""

from typing import Any, Final

from fedge_objects import JsonObject, parse_quantity

_UNFIT_AFFINITY: Final = "node(s) didn't match Pod's node affinity/selector"
_UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_NOT_READY: Final = "node.kubernetes.io/not-ready"
_UNREACHABLE: Final = "node.kubernetes.io/unreachable"


def refusal(pod: JsonObject, node: JsonObject, pods: int) -> str | None:
    """Return why a pod may not run on a node, as kube-scheduler says it; None if it may.

    Args:
        pod: the pod.
        node: the node.
        pods: how many pods the node has.
    """
    spec = pod["spec"]
    tolerations = spec.get("tolerations") or []
    if (node.get("spec") or {}).get("unschedulable") and not any(
        tolerates(t, {"key": _UNSCHEDULABLE, "effect": "NoSchedule"}) for t in tolerations
    ):
        return "node(s) were unschedulable"
    for taint in _taints(node):
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not any(
            tolerates(toleration, taint) for toleration in tolerations
        ):
            return (
                f"node(s) had untolerated taint {{{taint.get('key', '')}: "
                f"{taint.get('value', '')}}}"
            )
    if not _matches_selection(spec, node):
        return _UNFIT_AFFINITY
    status = node.get("status") or {}
    most = (status.get("allocatable") or status.get("capacity") or {}).get("pods")
    if most is not None and pods >= parse_quantity(most):
        return "Too many pods"
    return None


def _taints(node: JsonObject) -> list[dict[str, Any]]:
    """Return a node's taints, with the one that its readiness will bring in a moment."""
    taints: list[dict[str, Any]] = list((node.get("spec") or {}).get("taints") or ())
    conditions = {c.get("type"): c for c in (node.get("status") or {}).get("conditions") or ()}
    ready = (conditions.get("Ready") or {}).get("status")
    if ready != "True":
        key = _UNREACHABLE if ready == "Unknown" else _NOT_READY
        if not any(taint.get("key") == key for taint in taints):
            taints.append({"key": key, "effect": "NoSchedule"})
    return taints


def tolerates(toleration: dict[str, Any], taint: dict[str, Any]) -> bool:
    """Tell whether a toleration covers a taint."""
    effect = toleration.get("effect")
    if effect and effect != taint.get("effect"):
        return False
    key = toleration.get("key")
    if key and key != taint.get("key"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(key) and toleration.get("value", "") == taint.get("value", "")


def _matches_selection(spec: dict[str, Any], node: JsonObject) -> bool:
    labels: dict[str, str] = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    name = node["metadata"]["name"]
    return any(
        _matches_term(term, labels, name) for term in required.get("nodeSelectorTerms") or ()
    )


def _matches_term(term: dict[str, Any], labels: dict[str, str], name: str) -> bool:
    expressions = term.get("matchExpressions") or []
    fields = term.get("matchFields") or []
    if not expressions and not fields:
        return False
    return all(_matches(e, labels) for e in expressions) and all(
        _matches(field, {"metadata.name": name}) for field in fields
    )


def _matches(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    held = labels.get(expression.get("key", ""))
    values: list[str] = expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return held in values
        case "NotIn":
            return held not in values
        case "Exists":
            return held is not None
        case "DoesNotExist":
            return held is None
        case "Gt" | "Lt" as operator:
            try:
                number, limit = int(held or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return number > limit if operator == "Gt" else number < limit
        case _:
            return False
