"""Whether a node is one that a pod may run on: labels, fields and taints.

https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fedge_edged.pods import Pod, Toleration
from fedge_objects import JsonObject


def matches(pod: Pod, *, name: str, labels: Mapping[str, str]) -> bool:
    """Whether the pod's node selector and its required node affinity take the node."""
    if any(labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return False
    affinity = pod.spec.affinity.get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    terms = required.get("nodeSelectorTerms") or ()
    return any(_term_matches(term, name, labels) for term in terms)


def _term_matches(term: JsonObject, name: str, labels: Mapping[str, str]) -> bool:
    """Whether all of a term holds; an empty one never does."""
    on_labels, on_fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not on_labels and not on_fields:
        return False
    fields = {"metadata.name": name}
    return all(_holds(each, labels) for each in on_labels) and all(
        _holds(each, fields) for each in on_fields
    )


def _holds(requirement: JsonObject, values: Mapping[str, str]) -> bool:
    value: str | None = values.get(requirement["key"])
    wanted: list[Any] = requirement.get("values") or []
    match requirement.get("operator"):
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return _is_greater(value, wanted[0])
        case "Lt":
            return _is_greater(wanted[0], value)
        case _:
            return False


def _is_greater(one: str | None, other: str | None) -> bool:
    try:
        return one is not None and other is not None and int(one) > int(other)
    except ValueError:
        return False


def untolerated(
    taints: Iterable[JsonObject], tolerations: Iterable[Toleration], *, effect: str
) -> JsonObject | None:
    """Return the first taint of an effect that none of the tolerations bears."""
    borne = list(tolerations)
    for taint in taints:
        if taint.get("effect") == effect and not any(_tolerates(each, taint) for each in borne):
            return taint
    return None


def tolerates(tolerations: Iterable[Toleration], taint: JsonObject) -> bool:
    """Whether one of the tolerations bears a taint."""
    return any(_tolerates(each, taint) for each in tolerations)


def _tolerates(toleration: Toleration, taint: JsonObject) -> bool:
    if toleration.effect and toleration.effect != taint.get("effect"):
        return False
    if toleration.key and toleration.key != taint.get("key"):
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == (taint.get("value") or "")
