"""Server-side apply: who wants which fields, and what that makes of an object.

Each applier's fields are kept in ``managedFields``. A field that an applier leaves out of its next
configuration is removed, unless another one wants it too; a field that two want differently is a
conflict, unless one forces it. Managers are kept from the first apply on, because they are as big
as the object itself: what was there before belongs to ``before-first-apply``, and from then on the
fields that other writes change belong to who changed them.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from fedge_apiserver.errors import ApiError
from fedge_apiserver.resources import Resource
from fedge_apiserver.schema import type_table
from fedge_apiserver.strategic import MERGE_KEYS
from fedge_objects import JsonObject

Path = tuple[str, ...]
"""Steps as ``fieldsV1`` writes them: ``f:field``, ``k:{keys}`` or ``v:value`` in a list."""

_SERVER_OWNED: Final = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        *(
            ("f:metadata", f"f:{field}")
            for field in (
                "name",
                "namespace",
                "uid",
                "resourceVersion",
                "generation",
                "creationTimestamp",
                "managedFields",
            )
        ),
    }
)
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_SEVERAL_KEYS: Final = {
    ("Container", "ports"): ("containerPort", "protocol"),
    ("EphemeralContainer", "ports"): ("containerPort", "protocol"),
    ("PodSpec", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
}
_KEY_DEFAULTS: Final = {"protocol": "TCP"}


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is known of a place in an object.

    Attributes:
        code: a built-in type's code, or empty.
        schema: a custom resource's schema there, or None.
        keys: of a list whose items are told apart by them; empty for a set; None for a list that
            is one value.
        is_whole: a map that is one value.
    """

    code: str = ""
    schema: JsonObject | None = None
    keys: tuple[str, ...] | None = None
    is_whole: bool = False

    def child(self, field: str) -> "_Shape":
        """Return the shape of a map's field."""
        if self.schema is not None:
            inner = (self.schema.get("properties") or {}).get(field)
            if inner is None:
                inner = self.schema.get("additionalProperties")
            return _structural(inner)
        if self.code.startswith("#"):
            owner = self.code[1:]
            code = type_table()[owner]["f"].get(field, "")
            merge_key = MERGE_KEYS.get(owner, {}).get(field)
            keys: tuple[str, ...] | None = _SEVERAL_KEYS.get((owner, field))
            if keys is None and merge_key is not None:
                keys = (merge_key,) if merge_key else ()
            return _Shape(code, keys=keys)
        return _Shape(self.code[1:] if self.code.startswith("{") else "")

    def item(self) -> "_Shape":
        """Return the shape of a list's items."""
        if self.schema is not None:
            return _structural(self.schema.get("items"))
        return _Shape(self.code[1:] if self.code.startswith("[") else "")


def _structural(schema: object) -> _Shape:
    if not isinstance(schema, dict):
        return _Shape()
    keys: tuple[str, ...] | None = None
    match schema.get("x-kubernetes-list-type"):
        case "map":
            keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        case "set":
            keys = ()
    is_whole = schema.get("x-kubernetes-map-type") == "atomic"
    return _Shape(schema=schema, keys=keys, is_whole=is_whole)


def _root(resource: Resource) -> _Shape:
    if resource.schema is not None:
        return _Shape(f"#{resource.schema}")
    schema = dict(resource.structural or {})
    properties = {k: v for k, v in (schema.get("properties") or {}).items() if k != "metadata"}
    return _Shape(schema={**schema, "properties": properties})


def apply(
    resource: Resource,
    live: JsonObject,
    wanted: JsonObject,
    *,
    manager: str,
    force: bool,
    subresource: str,
    now: str,
) -> JsonObject:
    """Return an object with a configuration applied; ``live`` is not changed.

    Args:
        resource: what the object is.
        live: its present state; empty for a new one.
        wanted: the configuration.
        manager: who applies.
        force: take fields over from others.
        subresource: which part is written.
        now: the time, for the record.

    Raises:
        ApiError: 409, another applier wants other values.
    """
    shape = _root(resource)
    owned = {path for path in _paths(wanted, shape, ()) if path not in _SERVER_OWNED}
    entries: list[JsonObject] = list(live.get("metadata", {}).get("managedFields") or ())
    if live and not entries:
        entries = _before_first(resource, live, shape, now)
    mine: JsonObject | None = None
    others: list[tuple[JsonObject, set[Path]]] = []
    for entry in entries:
        is_mine = (
            entry.get("manager") == manager
            and entry.get("operation") == "Apply"
            and entry.get("subresource", "") == subresource
        )
        if is_mine:
            mine = entry
        else:
            others.append((entry, set(_parse(entry.get("fieldsV1") or {}, ()))))
    conflicts = [
        (entry, path)
        for entry, paths in others
        for path in sorted(paths & owned)
        if _is_leaf(path, owned) and _find(wanted, path) != _find(live, path)
    ]
    if conflicts and not force:
        raise _conflict(conflicts)
    for entry, path in conflicts:
        next(paths for other, paths in others if other is entry).discard(path)
    merged: JsonObject = copy.deepcopy(_merge(live, wanted, shape))
    before = set(_parse(mine.get("fieldsV1") or {}, ())) if mine is not None else set()
    kept = owned.union(*(paths for _, paths in others))
    # A list's item goes before its fields: without its keys it could not be found.
    for path in sorted(before - owned, key=len):
        if not any(other[: len(path)] == path for other in kept):
            _remove(merged, path)
    record = _record(resource, manager, "Apply", subresource, owned, now)
    if mine is not None and {**mine, "time": now} == record:
        # An apply that changes nothing is not a write.
        record["time"] = mine["time"]
    rest = [{**entry, "fieldsV1": _tree(paths)} for entry, paths in others if paths]
    position = next((i for i, entry in enumerate(entries) if entry is mine), len(rest))
    merged["metadata"]["managedFields"] = [*rest[:position], record, *rest[position:]]
    return merged


def record_update(
    resource: Resource,
    live: JsonObject,
    new: JsonObject,
    *,
    manager: str,
    subresource: str,
    now: str,
) -> JsonObject:
    """Return an object with the fields that a write changed given to who wrote.

    Args:
        resource: what the object is.
        live: its state before.
        new: its state as it was written; is not changed.
        manager: who writes.
        subresource: which part is written.
        now: the time, for the record.
    """
    entries: list[JsonObject] = live["metadata"].get("managedFields") or []
    given = new["metadata"].get("managedFields")
    if not entries or given in ([], [{}]):
        # Nobody has applied it, or the writer wants all to be forgotten.
        return {**new, "metadata": {**new["metadata"], "managedFields": []}}
    shape = _root(resource)
    before = _written(resource, live, shape, subresource)
    after = _written(resource, new, shape, subresource)
    changed = {
        path
        for path in before & after
        if not path[-1].startswith("k:") and _find(live, path) != _find(new, path)
    }
    changed |= after - before
    touched = changed | (before - after)
    kept: list[JsonObject] = []
    mine: set[Path] = set()
    for entry in entries:
        paths = set(_parse(entry.get("fieldsV1") or {}, ()))
        is_mine = (
            entry.get("manager") == manager
            and entry.get("operation") == "Update"
            and entry.get("subresource", "") == subresource
        )
        if is_mine:
            mine = paths
        elif not paths & touched:
            kept.append(entry)
        elif paths - touched:
            kept.append({**entry, "fieldsV1": _tree(paths - touched)})
    if owned := (mine | changed) - (before - after):
        kept.append(_record(resource, manager, "Update", subresource, owned, now))
    return {**new, "metadata": {**new["metadata"], "managedFields": kept if touched else entries}}


def _written(resource: Resource, value: JsonObject, shape: _Shape, subresource: str) -> set[Path]:
    """Return the paths of the part of an object that a write is about."""
    paths = {path for path in _paths(value, shape, ()) if path not in _SERVER_OWNED}
    if subresource != "status" and resource.has_status:
        paths = {path for path in paths if path[0] != "f:status"}
    return paths


def _before_first(
    resource: Resource, live: JsonObject, shape: _Shape, now: str
) -> list[JsonObject]:
    """Return who owns what was there before the first apply.

    What ``kubectl apply`` wrote is its own, and so nobody's: it goes on with server-side apply.
    """
    owned = _written(resource, live, shape, "")
    annotations = live["metadata"].get("annotations") or {}
    last = ("f:metadata", "f:annotations", f"f:{_LAST_APPLIED}")
    if last in owned:
        try:
            applied = json.loads(annotations[_LAST_APPLIED])
        except ValueError:
            applied = None
        owned -= {last, *(_paths(applied, shape, ()) if isinstance(applied, dict) else ())}
    return [_record(resource, "before-first-apply", "Update", "", owned, now)] if owned else []


def _record(
    resource: Resource, manager: str, operation: str, subresource: str, owned: set[Path], now: str
) -> JsonObject:
    record: JsonObject = {
        "manager": manager,
        "operation": operation,
        "apiVersion": resource.api_version,
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": _tree(owned),
    }
    if subresource:
        record["subresource"] = subresource
    return record


def _paths(value: Any, shape: _Shape, path: Path) -> Iterator[Path]:
    """Yield the paths of the values that a configuration sets."""
    if isinstance(value, dict) and value and not shape.is_whole:
        for field, item in value.items():
            yield from _paths(item, shape.child(field), (*path, f"f:{field}"))
    elif isinstance(value, list) and shape.keys is not None and value:
        inner = shape.item()
        for item in value:
            step = _step(item, shape.keys)
            yield (*path, step)
            if shape.keys:
                yield from _paths(item, inner, (*path, step))
    else:
        yield path


def _step(item: Any, keys: tuple[str, ...]) -> str:
    if not keys or not isinstance(item, dict):
        return "v:" + json.dumps(item, separators=(",", ":"))
    held = {key: item.get(key, _KEY_DEFAULTS.get(key)) for key in keys}
    return "k:" + json.dumps(held, separators=(",", ":"), sort_keys=True)


def _is_leaf(path: Path, paths: set[Path]) -> bool:
    return not path[-1].startswith("k:") or not any(
        len(other) > len(path) and other[: len(path)] == path for other in paths
    )


def _tree(paths: set[Path]) -> JsonObject:
    """Return paths as ``fieldsV1``."""
    tree: JsonObject = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return tree


def _parse(tree: JsonObject, path: Path) -> Iterator[Path]:
    """Yield the paths that ``fieldsV1`` holds."""
    for step, inner in tree.items():
        if step == ".":
            yield path
        elif not inner:
            yield (*path, step)
        else:
            yield from _parse(inner, (*path, step))


def _merge(live: Any, wanted: Any, shape: _Shape) -> Any:
    if isinstance(wanted, dict) and isinstance(live, dict) and not shape.is_whole:
        merged = dict(live)
        for field, item in wanted.items():
            merged[field] = _merge(live.get(field), item, shape.child(field))
        return merged
    if isinstance(wanted, list) and isinstance(live, list) and shape.keys is not None:
        items = list(live)
        steps = [_step(item, shape.keys) for item in items]
        inner = shape.item()
        for item in wanted:
            step = _step(item, shape.keys)
            if step not in steps:
                items.append(copy.deepcopy(item))
                steps.append(step)
            elif shape.keys:
                at = steps.index(step)
                items[at] = _merge(items[at], item, inner)
        return items
    return copy.deepcopy(wanted)


def _matches(item: Any, step: str) -> bool:
    if step.startswith("v:"):
        return bool(item == json.loads(step[2:]))
    keys = json.loads(step[2:])
    return isinstance(item, dict) and all(
        item.get(key, _KEY_DEFAULTS.get(key)) == value for key, value in keys.items()
    )


def _find(value: Any, path: Path) -> Any:
    """Return what lies at a path; None if nothing does."""
    for step in path:
        if step.startswith("f:"):
            value = value.get(step[2:]) if isinstance(value, dict) else None
        elif isinstance(value, list):
            value = next((item for item in value if _matches(item, step)), None)
        else:
            return None
    return value


def _remove(value: JsonObject, path: Path) -> None:
    """Remove what lies at a path, and the maps that this leaves empty."""
    parents: list[tuple[Any, str]] = []
    node: Any = value
    for step in path:
        parents.append((node, step))
        node = _find(node, (step,))
        if node is None:
            return
    for index, (parent, step) in enumerate(reversed(parents)):
        if index and (node or step.startswith("k:") or len(parents) - index == 1):
            return
        if step.startswith("f:"):
            del parent[step[2:]]
        else:
            at = next(i for i, item in enumerate(parent) if _matches(item, step))
            del parent[at]
        node = parent


def _conflict(conflicts: list[tuple[JsonObject, Path]]) -> ApiError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{entry.get("manager")}" using {entry.get("apiVersion")}',
            "field": _dotted(path),
        }
        for entry, path in conflicts
    ]
    texts = [
        f'conflict with "{entry.get("manager")}": {_dotted(path)}' for entry, path in conflicts
    ]
    if len(texts) == 1:
        message = f"Apply failed with 1 conflict: {texts[0]}"
    else:
        message = "\n- ".join([f"Apply failed with {len(texts)} conflicts:", *texts])
    return ApiError(409, "Conflict", message, details={"causes": causes})


def _dotted(path: Path) -> str:
    parts: list[str] = []
    for step in path:
        if step.startswith("f:"):
            parts.append(f".{step[2:]}")
        elif step.startswith("v:"):
            parts.append(f"[={step[2:]}]")
        else:
            keys = json.loads(step[2:])
            shown = ",".join(f"{key}={json.dumps(value)}" for key, value in keys.items())
            parts.append(f"[{shown}]")
    return "".join(parts)
