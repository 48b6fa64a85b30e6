"""What the cloud is told of a device: a DeviceStatus.

https://kubeedge.io/docs/developer/device_crd
"""

from datetime import UTC, datetime
from typing import Any, Final

from fedge_devices import as_text, milliseconds
from fedge_objects import JsonObject
from fedge_twin.device import Conflict, Device, Property

EXTENSION: Final = "devices.fedge.io"
"""Under this name ``status.extensions`` has what KubeEdge's kind has no field for."""


def status_of(device: Device, dropped_words: int = 0) -> JsonObject:
    """Return the status of a device.

    Args:
        device: the device.
        dropped_words: how many words of it were dropped because they were too many.
    """
    status: JsonObject = {"twins": _twins(device)}
    if device.state:
        status["state"] = device.state
    if device.last_online:
        status["lastOnlineTime"] = device.last_online
    more = {
        name: found for name, each in sorted(device.properties.items()) if (found := _more(each))
    }
    extension: JsonObject = {"properties": more} if more else {}
    if dropped_words:
        extension["droppedWords"] = dropped_words
    if extension:
        status["extensions"] = {EXTENSION: extension}
    return status


def _twins(device: Device) -> list[JsonObject]:
    twins: list[JsonObject] = []
    for name, each in sorted(device.properties.items()):
        twin: JsonObject = {"propertyName": name}
        if each.reported is not None and each.is_told:
            twin["reported"] = _shown(each.reported.text, each.reported.metadata)
        if each.desired is not None:
            twin["observedDesired"] = _shown(each.desired.text, each.desired.metadata)
        if len(twin) > 1:
            twins.append(twin)
    return twins


def _shown(value: str, metadata: JsonObject) -> JsonObject:
    """Return a value as DeviceStatus holds it: strings only."""
    shown: JsonObject = {"value": value}
    if metadata:
        shown["metadata"] = {name: as_text(each) for name, each in metadata.items()}
    return shown


def _more(each: Property) -> JsonObject:
    more: JsonObject = {}
    if each.desired is not None and each.desired.by == "edge":
        more["desiredBy"] = "edge"
        more["stamp"] = each.desired.at
    if each.conflict is not None:
        more["conflict"] = _conflict(each.conflict)
    if each.problem is not None:
        more["problem"] = {"reason": each.problem[0], "message": each.problem[1]}
    return more


def _conflict(conflict: Conflict) -> dict[str, Any]:
    at = datetime.fromtimestamp(milliseconds(conflict.at) / 1000, UTC)
    return {
        "kept": as_text(conflict.kept),
        "keptBy": conflict.kept_by,
        "lost": as_text(conflict.lost),
        "lostBy": conflict.lost_by,
        "rule": str(conflict.rule),
        "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
