"""How many pods a disruption budget lets go at the moment.

https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-budgets
"""

import math
from collections.abc import Iterable
from typing import Any

from fedge_apiserver.selectors import matches_labels
from fedge_objects import JsonObject

_DONE = ("Succeeded", "Failed")


def covers(budget: JsonObject, pod: JsonObject) -> bool:
    """Return whether a budget is about a pod; one without a selector is about none."""
    selector = (budget.get("spec") or {}).get("selector")
    same = budget["metadata"]["namespace"] == pod["metadata"]["namespace"]
    labels = pod["metadata"].get("labels") or {}
    return same and selector is not None and matches_labels(selector, labels)


def budget_status(budget: JsonObject, pods: Iterable[JsonObject]) -> JsonObject:
    """Return what a budget's status is to be.

    Args:
        budget: the PodDisruptionBudget.
        pods: all of its namespace. The pods that it is about count as the expected ones.
    """
    covered = [
        pod
        for pod in pods
        if covers(budget, pod) and (pod.get("status") or {}).get("phase") not in _DONE
    ]
    expected = len(covered)
    healthy = sum(_is_healthy(pod) for pod in covered)
    spec: dict[str, Any] = budget.get("spec") or {}
    if "maxUnavailable" in spec:
        desired = max(0, expected - _scaled(spec["maxUnavailable"], expected))
    else:
        desired = _scaled(spec.get("minAvailable", 1), expected)
    return {
        "observedGeneration": budget["metadata"].get("generation", 1),
        "disruptionsAllowed": max(0, healthy - desired) if expected else 0,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
    }


def _is_healthy(pod: JsonObject) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _scaled(amount: int | str, whole: int) -> int:
    if isinstance(amount, int):
        return amount
    return math.ceil(int(amount.removesuffix("%")) * whole / 100)
