"""Kinds with few rules: namespaces, nodes, leases, events."""

from typing import Any, Final

from fedge_apiserver.errors import Causes
from fedge_apiserver.kinds._metadata import check_label
from fedge_apiserver.kinds._rules import Rules
from fedge_objects import JsonObject

_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _create_namespace(value: JsonObject) -> None:
    value["spec"] = {"finalizers": ["kubernetes"]}
    value["status"] = {"phase": "Active"}


def _default_namespace(value: JsonObject) -> None:
    labels = value["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = value["metadata"].get("name", "")


def _check_namespace(value: JsonObject, causes: Causes) -> None:
    name = value["metadata"].get("name", "")
    if name:
        check_label(name, "metadata.name", causes)


def _update_namespace(new: JsonObject, old: JsonObject) -> None:
    # Only the finalize subresource takes the namespace's own finalizer away.
    new.setdefault("spec", old.get("spec", {}))


def _default_node(value: JsonObject) -> None:
    value.setdefault("spec", {})
    value.setdefault("status", {})
    status = value["status"]
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))


def _check_node(value: JsonObject, causes: Causes) -> None:
    seen = set()
    for index, taint in enumerate(value["spec"].get("taints") or ()):
        path = f"spec.taints[{index}]"
        if not taint.get("key"):
            causes.required(f"{path}.key")
        if taint.get("effect") not in _EFFECTS:
            causes.not_supported(f"{path}.effect", taint.get("effect", ""), _EFFECTS)
        identity = (taint.get("key"), taint.get("effect"))
        if identity in seen:
            causes.duplicate(path, taint)
        seen.add(identity)


def _check_lease(value: JsonObject, causes: Causes) -> None:
    spec: dict[str, Any] = value.get("spec") or {}
    if (duration := spec.get("leaseDurationSeconds")) is not None and duration <= 0:
        causes.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")
    if (transitions := spec.get("leaseTransitions")) is not None and transitions < 0:
        causes.invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0")


def _default_event(value: JsonObject) -> None:
    value.setdefault("involvedObject", {})
    value.setdefault("source", {})
    for field in ("reportingComponent", "reportingInstance"):
        value.setdefault(field, "")


def _check_event(value: JsonObject, causes: Causes) -> None:
    namespace = value["metadata"].get("namespace", "")
    involved = value["involvedObject"].get("namespace", "")
    if namespace != (involved or "default"):
        causes.invalid("involvedObject.namespace", involved, "does not match event.namespace")


_EVENT_NAMES: Final = {
    "message": "note",
    "involvedObject": "regarding",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_NEW_EVENT_NAMES: Final = {new: old for old, new in _EVENT_NAMES.items()}


def to_new_event(value: JsonObject) -> JsonObject:
    """Return a core event as ``events.k8s.io/v1`` shows it."""
    renamed = {_EVENT_NAMES.get(key, key): item for key, item in value.items()}
    return {**renamed, "apiVersion": "events.k8s.io/v1"}


def from_new_event(value: JsonObject) -> JsonObject:
    """Return an ``events.k8s.io/v1`` event as the core group stores it."""
    renamed = {_NEW_EVENT_NAMES.get(key, key): item for key, item in value.items()}
    return {**renamed, "apiVersion": "v1"}


NAMESPACE_RULES: Final = Rules(
    default=_default_namespace,
    create=_create_namespace,
    update=_update_namespace,
    check=_check_namespace,
    check_name=check_label,
)
NODE_RULES: Final = Rules(default=_default_node, check=_check_node)
LEASE_RULES: Final = Rules(check=_check_lease)
EVENT_RULES: Final = Rules(default=_default_event, check=_check_event)
