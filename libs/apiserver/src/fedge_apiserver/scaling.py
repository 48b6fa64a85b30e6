"""The scale of what has replicas, as ``autoscaling/v1`` shows it.

https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/
"""

from typing import Any

from fedge_apiserver.errors import Causes, invalid
from fedge_objects import JsonObject


class ScaleName:
    """Names a scale in messages."""

    group = "autoscaling"
    plural = "scales"
    kind = "Scale"


def scale_of(value: JsonObject) -> JsonObject:
    """Return an object's scale."""
    meta, spec = value["metadata"], value["spec"]
    fields = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = (spec.get("selector") or {}).get("matchLabels") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: meta[field] for field in fields if field in meta},
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {
            "replicas": int((value.get("status") or {}).get("replicas") or 0),
            "selector": ",".join(f"{key}={held}" for key, held in sorted(labels.items())),
        },
    }


def scaled(value: JsonObject, scale: JsonObject) -> JsonObject:
    """Return an object with a scale's number of replicas, for the version that the scale names.

    Raises:
        ApiError: 422, it names no such number.
    """
    wanted: Any = (scale.get("spec") or {}).get("replicas", 0)
    name = value["metadata"]["name"]
    causes = Causes()
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        causes.invalid("spec.replicas", wanted, "must be a whole number")
    elif wanted < 0:
        causes.invalid("spec.replicas", wanted, "must be greater than or equal to 0")
    if causes.found:
        raise invalid(ScaleName, name, causes)
    meta = dict(value["metadata"])
    given = scale.get("metadata") or {}
    for field in ("resourceVersion", "uid"):
        if given.get(field):
            meta[field] = given[field]
    return {**value, "metadata": meta, "spec": {**value["spec"], "replicas": wanted}}
