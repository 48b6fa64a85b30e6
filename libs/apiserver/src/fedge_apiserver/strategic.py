"""Strategic merge patch: a merge patch that knows which lists are maps in disguise.

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
https://github.com/kubernetes/community/blob/main/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from typing import Any, Final

from fedge_apiserver.patching import PatchError
from fedge_apiserver.schema import type_table

_CONTAINER: Final = {
    "env": "name",
    "ports": "containerPort",
    "resizePolicy": "",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
}
MERGE_KEYS: Final[dict[str, dict[str, str]]] = {
    "ObjectMeta": {"ownerReferences": "uid", "finalizers": ""},
    "PodSpec": {
        "containers": "name",
        "initContainers": "name",
        "ephemeralContainers": "name",
        "volumes": "name",
        "imagePullSecrets": "name",
        "hostAliases": "ip",
        "resourceClaims": "name",
        "schedulingGates": "name",
        "topologySpreadConstraints": "topologyKey",
    },
    "Container": {k: v for k, v in _CONTAINER.items() if v},
    "EphemeralContainer": {k: v for k, v in _CONTAINER.items() if v},
    "PodStatus": {
        "conditions": "type",
        "podIPs": "ip",
        "hostIPs": "ip",
        "resourceClaimStatuses": "name",
    },
    "DeploymentStatus": {"conditions": "type"},
    "ReplicaSetStatus": {"conditions": "type"},
    "DaemonSetStatus": {"conditions": "type"},
    "JobStatus": {"conditions": "type"},
    "StatefulSetStatus": {"conditions": "type"},
    "NodeSpec": {"podCIDRs": ""},
    "NodeStatus": {"addresses": "type", "conditions": "type"},
    "NamespaceStatus": {"conditions": "type"},
    "ServiceAccount": {"secrets": "name", "imagePullSecrets": "name"},
}
"""Merge key of each list that is merged, by type and field; empty for a set of plain values."""

_ORDER: Final = "$setElementOrder/"
_DELETE: Final = "$deleteFromPrimitiveList/"


def merge_strategically(target: dict[str, Any], patch: Any, type_name: str) -> dict[str, Any]:
    """Return an object of a built-in type with a patch applied; ``target`` is not changed.

    Raises:
        PatchError: the patch is malformed.
    """
    if not isinstance(patch, dict):
        raise PatchError("a strategic merge patch must be an object")
    merged = _merge_map(target, patch, type_name)
    return {} if merged is None else merged


def _merge_map(target: Any, patch: dict[str, Any], type_name: str | None) -> dict[str, Any] | None:
    """Return the merged map; None if the patch deletes it."""
    directive = patch.get("$patch", "merge")
    if directive == "replace":
        return _clean_map(patch)
    if directive == "delete":
        return None
    if directive != "merge":
        raise PatchError(f"unknown patch type: {directive}")
    merged = dict(target) if isinstance(target, dict) else {}
    _take_away(merged, patch)
    keys = MERGE_KEYS.get(type_name or "", {})
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        inner: Any = None
        if isinstance(value, dict):
            inner = _merge_map(merged.get(key), value, _inner_type(type_name, key))
        elif isinstance(value, list) and key in keys:
            inner = _merge_list(merged.get(key), value, keys[key], _inner_type(type_name, key), key)
        elif value is not None:
            inner = _clean(value)
        if inner is None:
            merged.pop(key, None)
        else:
            merged[key] = inner
    _put_in_order(merged, patch, keys)
    return merged


def _put_in_order(merged: dict[str, Any], patch: dict[str, Any], keys: dict[str, str]) -> None:
    """Sort the lists whose order the patch gives."""
    for key, order in patch.items():
        if key.startswith(_ORDER):
            field = key.removeprefix(_ORDER)
            held = merged.get(field)
            if isinstance(held, list) and isinstance(order, list):
                merged[field] = _ordered(held, order, keys.get(field, ""))


def _take_away(merged: dict[str, Any], patch: dict[str, Any]) -> None:
    """Remove what the patch's directives name."""
    if (retained := patch.get("$retainKeys")) is not None:
        if not isinstance(retained, list):
            raise PatchError("$retainKeys must be a list")
        for key in set(merged) - set(retained):
            del merged[key]
    for key, gone in patch.items():
        if key.startswith(_DELETE):
            field = key.removeprefix(_DELETE)
            held = merged.get(field)
            if isinstance(held, list) and isinstance(gone, list):
                merged[field] = [item for item in held if item not in gone]


def _inner_type(type_name: str | None, field: str) -> str | None:
    if type_name is None:
        return None
    code = type_table().get(type_name, {}).get("f", {}).get(field, "")
    return code.lstrip("[{").removeprefix("#") if "#" in code else None


def _merge_list(
    target: Any, patch: list[Any], merge_key: str, type_name: str | None, field: str
) -> list[Any]:
    held = list(target) if isinstance(target, list) else []
    if not merge_key:
        return held + [item for item in patch if item not in held]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [
            _clean(item)
            for item in patch
            if not (isinstance(item, dict) and item.get("$patch") == "replace" and len(item) == 1)
        ]
    for item in patch:
        if not isinstance(item, dict):
            raise PatchError(f"an item of {field} must be an object")
        if merge_key not in item:
            raise PatchError(
                f"map: map{sorted(item)} does not contain declared merge key: {merge_key}"
            )
        at = next(
            (
                index
                for index, known in enumerate(held)
                if isinstance(known, dict) and known.get(merge_key) == item[merge_key]
            ),
            None,
        )
        if item.get("$patch") == "delete":
            if at is not None:
                held = [
                    known
                    for known in held
                    if not (isinstance(known, dict) and known.get(merge_key) == item[merge_key])
                ]
        elif at is None:
            held.append(_clean(item))
        else:
            held[at] = _merge_map(held[at], item, type_name)
    return held


def _ordered(held: list[Any], order: list[Any], merge_key: str) -> list[Any]:
    """Return the items in the wanted order, those it does not name behind their predecessors."""

    def identity(item: Any) -> Any:
        return item.get(merge_key) if merge_key and isinstance(item, dict) else item

    wanted = [identity(item) for item in order]
    ordered = sorted(
        (item for item in held if identity(item) in wanted),
        key=lambda item: wanted.index(identity(item)),
    )
    before: Any = None
    for item in held:
        if identity(item) not in wanted:
            known = [identity(other) for other in ordered]
            at = known.index(before) + 1 if before in known else 0
            ordered.insert(at, item)
        before = identity(item)
    return ordered


def _clean(value: Any) -> Any:
    """Return a new value without directives and nulls."""
    if isinstance(value, dict):
        return _clean_map(value)
    if isinstance(value, list):
        return [
            _clean(item)
            for item in value
            if not (isinstance(item, dict) and item.get("$patch") == "delete")
        ]
    return value


def _clean_map(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _clean(item)
        for key, item in value.items()
        if not key.startswith("$") and item is not None
    }
