"""What the cloud's objects say about a twin.

The rule for desired values is "the cloud wins when it speaks": a value that the manifest changes
replaces what the edge wished meanwhile; a manifest that changes elsewhere does not.
"""

from collections.abc import Iterator
from dataclasses import replace

from fedge_objects import Change, JsonObject, ObjectKey
from fedge_twin.device import DEVICE_MODELS, Device, Model, ModelProperty, Property, Side


def declare(before: Device | None, change: Change) -> Device:
    """Return the device as its Device object now says.

    Args:
        before: as it was; None if it is new here.
        change: the object; no tombstone.
    """
    obj = change.object or {}
    spec = _dict(obj.get("spec"))
    metadata = _dict(obj.get("metadata"))
    uid = str(metadata.get("uid") or "")
    if before is not None and before.uid != uid:
        before = None  # another device of the same name
    model = _dict(spec.get("deviceModelRef")).get("name")
    known = dict(before.properties) if before else {}
    declared = {name: _declare(known.get(name), name, wish) for name, wish in _wishes(spec)}
    kept = {name: each for name, each in known.items() if not each.in_manifest}
    return Device(
        key=change.key,
        uid=uid,
        version=change.version,
        description=str(_dict(metadata.get("annotations")).get("description") or ""),
        model=ObjectKey(DEVICE_MODELS, change.key.namespace, str(model)) if model else None,
        state=before.state if before else "",
        last_online=before.last_online if before else "",
        sequence=before.sequence + 1 if before else 1,
        properties={**kept, **declared},
    )


def read_model(obj: JsonObject) -> Model:
    """Return what a DeviceModel object says about properties."""
    return {
        str(each["name"]): ModelProperty(
            type=str(each.get("type") or "string").lower(),
            minimum=_number(each.get("minimum")),
            maximum=_number(each.get("maximum")),
        )
        for each in _named(_dict(obj.get("spec")))
    }


def _declare(before: Property | None, name: str, wish: JsonObject | None) -> Property:
    if before is None:
        before = Property(name=name)
    if wish == before.wish:
        return replace(before, in_manifest=True)
    desired = None
    if wish is not None:
        old = before.desired
        desired = Side(
            value=wish["value"],
            metadata=_dict(wish.get("metadata")),
            cloud=old.cloud + 1 if old else 1,
            edge=old.edge if old else 0,
        )
    return replace(before, in_manifest=True, wish=wish, desired=desired)


def _wishes(spec: JsonObject) -> Iterator[tuple[str, JsonObject | None]]:
    for each in _named(spec):
        desired = each.get("desired")
        has_value = isinstance(desired, dict) and desired.get("value") not in (None, "")
        yield str(each["name"]), desired if has_value else None


def _named(spec: JsonObject) -> list[JsonObject]:
    properties = spec.get("properties")
    if not isinstance(properties, list):
        return []
    return [each for each in properties if isinstance(each, dict) and each.get("name")]


def _dict(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    """Return a bound; the API gives numbers, older manifests strings."""
    try:
        return None if value is None else float(str(value))
    except ValueError:
        return None
