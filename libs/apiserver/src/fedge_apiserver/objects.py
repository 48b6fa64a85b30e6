"""Objects as they are written: decoded, defaulted, judged, given their metadata.

Everything here works on plain values and knows neither storage nor HTTP.
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from fedge_apiserver.errors import (
    STALE,
    ApiError,
    Causes,
    bad_request,
    conflict,
    invalid,
)
from fedge_apiserver.kinds import (
    NO_RULES,
    RULES,
    Rules,
    check_metadata,
    check_metadata_update,
    from_new_event,
    to_new_event,
)
from fedge_apiserver.resources import NEW_EVENTS, Resource
from fedge_apiserver.schema import check_structural, conform, fill_defaults, prune
from fedge_objects import JsonObject

Clock = Callable[[], datetime]

_NAME_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST_PREFIX: Final = 58
_SERVER_OWNED: Final = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)


def timestamp(moment: datetime) -> str:
    """Return a time as metadata has it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rules_of(resource: Resource) -> Rules:
    """Return the rules of a resource's kind."""
    return RULES.get(resource.storage, NO_RULES)


def read_view(resource: Resource, value: JsonObject) -> JsonObject:
    """Return a stored object as the resource shows it."""
    if resource is NEW_EVENTS:
        return to_new_event(value)
    return {**value, "apiVersion": resource.api_version}


def conform_to(resource: Resource, value: JsonObject, *, kind_given: bool = True) -> list[str]:
    """Bring a request's object into its kind's form, in place; return unknown fields' paths.

    Raises:
        ApiError: 400, it is of another kind, or a value does not fit its field.
    """
    if kind_given:
        _check_kind(resource, value)
    value["apiVersion"], value["kind"] = resource.api_version, resource.kind
    meta = value.setdefault("metadata", {})
    if meta is None:
        value["metadata"] = {}
    elif not isinstance(meta, dict):
        raise undecodable(resource, "json: cannot unmarshal metadata into v1.ObjectMeta")
    try:
        if resource.schema is not None:
            return conform(value, resource.schema)
        unknown = [f"metadata.{path}" for path in conform(value["metadata"], "ObjectMeta")]
        unknown += prune(value, resource.structural or {})
    except ValueError as exc:
        raise undecodable(resource, str(exc)) from exc
    return unknown


def undecodable(resource: Resource, reason: str) -> ApiError:
    """Return the refusal of an object that is no object of its kind."""
    return bad_request(
        f'{resource.kind} in version "{resource.version}" cannot be handled as a '
        f"{resource.kind}: {reason}"
    )


def _check_kind(resource: Resource, value: JsonObject) -> None:
    kind = value.get("kind") or resource.kind
    version = value.get("apiVersion") or resource.api_version
    if version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if kind != resource.kind:
        raise bad_request(
            f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"the kind in the data ({kind}) does not match the expected kind ({resource.kind})"
        )


def to_storage(resource: Resource, value: JsonObject) -> JsonObject:
    """Return a request's object as it is stored."""
    return from_new_event(value) if resource is NEW_EVENTS else value


def prepare_new(resource: Resource, value: JsonObject, namespace: str, now: datetime) -> JsonObject:
    """Return a new object, complete and judged, ready to be stored.

    Raises:
        ApiError: 400 for a name or namespace that contradicts the path, 422 for broken rules.
    """
    value = to_storage(resource, value)
    meta: dict[str, Any] = value["metadata"]
    if resource.namespaced:
        held = meta.setdefault("namespace", namespace)
        if held != namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
    elif meta.pop("namespace", ""):
        raise bad_request("namespace is not allowed on this type")
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"):
        meta.pop(field, None)
    if meta.pop("resourceVersion", ""):
        raise bad_request("resourceVersion should not be set on objects to be created")
    if not meta.get("name") and (prefix := meta.get("generateName")):
        suffix = "".join(secrets.choice(_NAME_LETTERS) for _ in range(5))
        meta["name"] = f"{prefix[:_LONGEST_PREFIX]}{suffix}"
    meta["uid"] = str(uuid4())
    meta["creationTimestamp"] = timestamp(now)
    rules = rules_of(resource)
    meta.pop("generation", None)
    if rules.counts_generation or resource.is_custom:
        meta["generation"] = 1
    if resource.is_custom:
        if resource.has_status:
            value.pop("status", None)
        fill_defaults(value, resource.structural or {})
    causes = Causes()
    _complete(rules, value)
    check_metadata(value, causes, rules.check_name)
    rules.check(value, causes)
    _check_custom(resource, value, None, causes)
    if causes.found:
        raise invalid(resource, meta.get("name", ""), causes)
    rules.create(value)
    return value


def prepare_update(
    resource: Resource, new: JsonObject, old: JsonObject, subresource: str
) -> JsonObject:
    """Return an object's next state, complete and judged; ``old`` itself if nothing changes.

    Raises:
        ApiError: 400, 409 or 422.
    """
    new = to_storage(resource, new)
    meta, before = new["metadata"], old["metadata"]
    name = before["name"]
    check_preconditions(resource, name, before, meta.get("uid"), meta.get("resourceVersion"))
    if meta.get("name", name) != name:
        raise bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    if meta.get("namespace", before.get("namespace")) != before.get("namespace"):
        raise bad_request(
            f"the namespace of the object ({meta['namespace']}) does not match the namespace on "
            f"the URL ({before.get('namespace', '')})"
        )
    new = _by_subresource(resource, new, old, subresource)
    meta = new["metadata"] = dict(new["metadata"])
    meta["name"], meta["resourceVersion"] = name, before["resourceVersion"]
    if "managedFields" not in meta and "managedFields" in before:
        meta["managedFields"] = before["managedFields"]
    if "namespace" in before:
        meta["namespace"] = before["namespace"]
    for field in _SERVER_OWNED:
        if field in before:
            meta[field] = before[field]
        else:
            meta.pop(field, None)
    rules = rules_of(resource)
    _complete(rules, new)
    if resource.is_custom:
        fill_defaults(new, resource.structural or {})
    causes = Causes()
    check_metadata_update(new, old, causes)
    check_metadata(new, causes, rules.check_name)
    rules.check(new, causes)
    if subresource == "":
        rules.check_update(new, old, causes)
    _check_custom(resource, new, old, causes)
    if causes.found:
        raise invalid(resource, name, causes)
    if subresource == "":
        rules.update(new, old)
    _count_generation(resource, rules, new, old)
    return old if new == old else new


def check_preconditions(
    resource: Resource,
    name: str,
    meta: JsonObject,
    uid: str | None,
    revision: str | None,
    *,
    is_delete: bool = False,
) -> None:
    """Refuse a write that was meant for another object, or another state of it.

    Raises:
        ApiError: 409.
    """
    if uid and uid != meta["uid"]:
        raise conflict(
            resource,
            name,
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}",
        )
    if revision and revision != meta["resourceVersion"]:
        if is_delete:
            raise conflict(
                resource,
                name,
                f"Precondition failed: ResourceVersion in precondition: {revision}, "
                f"ResourceVersion in object meta: {meta['resourceVersion']}",
            )
        raise conflict(resource, name, STALE)


def _check_custom(
    resource: Resource, value: JsonObject, old: JsonObject | None, causes: Causes
) -> None:
    """Add what its definition does not allow in a custom resource."""
    if resource.structural is not None:
        check_structural(value, resource.structural, causes)
    if resource.rules is not None and not causes.found:
        resource.rules.check(value, old, causes)


def _complete(rules: Rules, value: JsonObject) -> None:
    meta = value["metadata"]
    for field in ("labels", "annotations", "finalizers", "ownerReferences", "managedFields"):
        if field in meta and not meta[field]:
            del meta[field]
    rules.default(value)


def _by_subresource(
    resource: Resource, new: JsonObject, old: JsonObject, subresource: str
) -> JsonObject:
    """Return the new state with only those parts changed that the subresource may change."""
    if subresource == "status":
        # A node agent's status patch carries labels too; a custom resource's may not.
        parts = {"status": new.get("status", {})}
        if not resource.is_custom:
            parts["metadata"] = new["metadata"]
        elif managed := new["metadata"].get("managedFields"):
            parts["metadata"] = {**old["metadata"], "managedFields": managed}
        return {**old, **parts}
    if subresource == "ephemeralcontainers":
        return {**old, "spec": _with_ephemeral(old["spec"], new["spec"])}
    if subresource == "" and resource.has_status:
        if "status" in old:
            return {**new, "status": old["status"]}
        return {key: item for key, item in new.items() if key != "status"}
    return new


def _with_ephemeral(old: JsonObject, new: JsonObject) -> JsonObject:
    """Return a pod's spec with the ephemeral containers that were added; the others stay.

    https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/
    """
    kept = list(old.get("ephemeralContainers") or ())
    asked = list(new.get("ephemeralContainers") or ())
    names = {each["name"] for each in kept}
    gone = names - {each.get("name") for each in asked}
    if gone:
        raise bad_request(f"existing ephemeral containers {sorted(gone)} may not be removed")
    added = [each for each in asked if each.get("name") not in names]
    return {**old, "ephemeralContainers": [*kept, *added]}


def _count_generation(resource: Resource, rules: Rules, new: JsonObject, old: JsonObject) -> None:
    if resource.is_custom:
        apart = ("metadata", "status") if resource.has_status else ("metadata",)
        is_changed = {k: v for k, v in new.items() if k not in apart} != {
            k: v for k, v in old.items() if k not in apart
        }
    elif rules.counts_generation:
        is_changed = new.get("spec") != old.get("spec")
    else:
        return
    if is_changed:
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
