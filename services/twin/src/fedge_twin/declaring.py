"""What the cloud's objects say about a twin."""

from dataclasses import replace

from fedge_devices import MAX_PROPERTIES, Declared, HybridClock, Model, Stamp, read_declared
from fedge_objects import Change, JsonObject, ObjectKey
from fedge_twin.device import DEVICE_MODELS, Device, Property, Wish
from fedge_twin.merging import declared


def declare(
    before: Device | None, change: Change, model: Model | None, clock: HybridClock
) -> Device:
    """Return the device as its Device object now says.

    Args:
        before: as it was; None if it is new here.
        change: the object; no tombstone.
        model: what its model says; None if it has none, or it is not known yet.
        clock: takes notice of the cloud's stamps.
    """
    obj = change.object or {}
    metadata = _dict(obj.get("metadata"))
    uid = str(metadata.get("uid") or "")
    if before is not None and before.uid != uid:
        before = None  # another device of the same name
    said = dict(list(read_declared(obj).items())[:MAX_PROPERTIES])
    for each in said.values():
        clock.saw(each.stamp.at)
    now = clock.stamp()
    known = dict(before.properties) if before else {}
    properties = {name: each for name, each in known.items() if not each.in_manifest}
    for name, each in said.items():
        properties[name] = declared(known.get(name) or Property(name=name), each, model, now)
    return Device(
        key=change.key,
        uid=uid,
        version=change.version,
        description=str(_dict(metadata.get("annotations")).get("description") or ""),
        model=model_of(change),
        state=before.state if before else "",
        last_online=before.last_online if before else "",
        properties=properties,
    )


def model_of(change: Change) -> ObjectKey | None:
    """Return the model that a Device object names."""
    spec = _dict((change.object or {}).get("spec"))
    name = _dict(spec.get("deviceModelRef")).get("name")
    return ObjectKey(DEVICE_MODELS, change.key.namespace, str(name)) if name else None


def declare_again(device: Device, model: Model | None, clock: HybridClock) -> Device:
    """Return the device after its model changed: a wish may be good by now, or bad."""
    now = clock.stamp()
    properties = {
        name: declared(each, _said(each), model, now) if each.in_manifest else each
        for name, each in device.properties.items()
    }
    return replace(device, properties=properties)


def _said(each: Property) -> Declared:
    wish: Wish | None = each.wish
    return Declared(
        name=each.name,
        wish=None if wish is None else {"value": wish.value, "metadata": wish.metadata},
        stamp=Stamp(wish.at if wish else 0),
        rule=each.rule,
        is_told=each.is_told,
        report_cycle_ms=each.report_cycle_ms,
    )


def _dict(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}
