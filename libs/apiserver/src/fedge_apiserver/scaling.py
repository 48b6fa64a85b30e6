"""The scale of what has replicas, as ``autoscaling/v1`` shows it.

https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/
"""

import copy
from typing import Any

from fedge_apiserver.errors import Causes, internal, invalid
from fedge_apiserver.resources import REPLICAS
from fedge_objects import JsonObject


class ScaleName:
    """Names a scale in messages."""

    group = "autoscaling"
    plural = "scales"
    kind = "Scale"


def _at(value: JsonObject, path: str) -> Any:
    found: Any = value
    for name in path.split(".")[1:]:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _number(value: JsonObject, path: str) -> int:
    found = _at(value, path)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _selector(value: JsonObject, paths: JsonObject) -> str:
    if (path := paths.get("labelSelectorPath")) is not None:
        return str(_at(value, path) or "")
    spec = value.get("spec")
    selector = spec.get("selector") if isinstance(spec, dict) else None
    labels = selector.get("matchLabels") if isinstance(selector, dict) else None
    return ",".join(f"{key}={held}" for key, held in sorted((labels or {}).items()))


def scale_of(value: JsonObject, paths: JsonObject) -> JsonObject:
    """Return an object's scale.

    Raises:
        ApiError: 500, a custom object does not say how many it wants, as a cluster answers.
    """
    meta = value["metadata"]
    wanted = paths["specReplicasPath"]
    if _at(value, wanted) is None and paths is not REPLICAS:
        raise internal(f'the spec replicas field "{wanted}" does not exist')
    fields = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: meta[field] for field in fields if field in meta},
        "spec": {"replicas": _number(value, wanted)},
        "status": {
            "replicas": _number(value, paths["statusReplicasPath"]),
            "selector": _selector(value, paths),
        },
    }


def scaled(value: JsonObject, scale: JsonObject, paths: JsonObject) -> JsonObject:
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
    changed = copy.deepcopy({**value, "metadata": meta})
    *parents, last = paths["specReplicasPath"].split(".")[1:]
    node = changed
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = wanted
    return changed
