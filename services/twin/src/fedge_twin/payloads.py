"""What devices and twin say to each other over MQTT.

Topics and payloads are KubeEdge's (https://kubeedge.io/docs/developer/mqtt_message), so that its
devices, mappers and tools work unchanged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from fedge_objects import JsonObject, NodeName
from fedge_twin.device import Device, Property, Side
from fedge_twin.topics import device_topic, node_topic

MAX_PAYLOAD_BYTES = 256 * 1024

_T = TypeVar("_T", bound="Asked")


class BadPayloadError(ValueError):
    """A payload that is not as documented. The text says where."""


class Asked(msgspec.Struct, kw_only=True):
    """Any request: ``event_id`` comes back in the answer."""

    event_id: str = ""
    timestamp: int = 0


class GivenValue(msgspec.Struct, kw_only=True):
    """A value with what belongs to it."""

    value: Any
    metadata: JsonObject | None = None


class GivenProperty(msgspec.Struct, kw_only=True):
    """What an update says about a property; a side that it leaves out stays as it is."""

    actual: GivenValue | UnsetType | None = UNSET
    expected: GivenValue | UnsetType | None = UNSET
    optional: bool | None = None
    metadata: JsonObject | None = None


class UpdateAsked(Asked, kw_only=True):
    """``twin/update``: null deletes an optional property."""

    twin: dict[str, GivenProperty | None]


class StateAsked(Asked, kw_only=True):
    """``state/update``."""

    state: str


@dataclass(frozen=True, slots=True)
class Message:
    """Something to be published."""

    topic: str
    payload: bytes


def read_asked(payload: bytes) -> Asked:
    """Read a request that says nothing more; an empty payload is one.

    Raises:
        BadPayloadError: as for every function here.
    """
    return _read(payload or b"{}", Asked)


def read_update(payload: bytes) -> UpdateAsked:
    """Read an update."""
    return _read(payload, UpdateAsked)


def read_state(payload: bytes) -> StateAsked:
    """Read a change of state."""
    return _read(payload, StateAsked)


def event_id_of(payload: bytes) -> str:
    """Return the event id of a payload that could not be read otherwise, if it has one."""
    try:
        return _read(payload, Asked).event_id
    except BadPayloadError:
        return ""


def refused(topic: str, event_id: str, now_ms: int, code: int, reason: str) -> Message:
    """Return the answer that something was refused; codes are HTTP's: 400, 404, 409, 500."""
    return _message(topic, event_id, now_ms, {"code": code, "reason": reason})


def got(device: Device, event_id: str, now_ms: int, types: Mapping[str, str]) -> Message:
    """Return the answer to ``twin/get``, versions included."""
    twin = {
        name: {**_twin(each, types), **_versions(each)} for name, each in device.properties.items()
    }
    return _message(device_topic(device.key, "twin/get/result"), event_id, now_ms, {"twin": twin})


def updated(
    device: Device, names: Iterable[str], event_id: str, now_ms: int, types: Mapping[str, str]
) -> Message:
    """Return the answer to ``twin/update``: what became of the properties that it named."""
    twin = {name: _twin_or_none(device, name, types) for name in names}
    topic = device_topic(device.key, "twin/update/result")
    return _message(topic, event_id, now_ms, {"twin": twin})


def document(
    before: Device, after: Device, names: Iterable[str], now_ms: int, types: Mapping[str, str]
) -> Message:
    """Return what the properties were before an update and are after it."""
    twin = {
        name: {
            "last": _full_or_none(before, name, types),
            "current": _full_or_none(after, name, types),
        }
        for name in names
    }
    return _message(device_topic(after.key, "twin/update/document"), "", now_ms, {"twin": twin})


def delta(device: Device, now_ms: int, types: Mapping[str, str]) -> Message | None:
    """Return what the device should change; None if it is all that it should be."""
    wanted = {
        name: each.desired.text
        for name, each in device.properties.items()
        if each.differs and each.desired
    }
    if not wanted:
        return None
    twin = {name: _twin(each, types) for name, each in device.properties.items()}
    topic = device_topic(device.key, "twin/update/delta")
    return _message(topic, "", now_ms, {"twin": twin, "delta": wanted})


def state_updated(device: Device, event_id: str, now_ms: int) -> Message:
    """Return the answer to ``state/update``."""
    topic = device_topic(device.key, "state/update/result")
    about = {
        "name": device.key.name,
        "state": device.state,
        "lastOnlineTime": device.last_online,
    }
    return _message(topic, event_id, now_ms, {"device": about})


def membership(node: NodeName, devices: Iterable[Device], event_id: str, now_ms: int) -> Message:
    """Return the answer to ``membership/get``."""
    listed = [
        {
            "id": each.id,
            "name": each.key.name,
            "description": each.description,
            "state": each.state,
            "last_online": each.last_online,
            "attributes": {},
        }
        for each in devices
    ]
    topic = node_topic(node, "membership/get/result")
    return _message(topic, event_id, now_ms, {"devices": listed})


def membership_updated(
    node: NodeName,
    now_ms: int,
    *,
    added: Iterable[tuple[Device, Mapping[str, str]]] = (),
    removed: Iterable[Device] = (),
) -> Message:
    """Return the word that devices came to this node or left it."""
    came = [
        {
            "id": device.id,
            "name": device.key.name,
            "twin": {name: _twin(each, types) for name, each in device.properties.items()},
        }
        for device, types in added
    ]
    left = [{"id": each.id, "name": each.key.name} for each in removed]
    topic = node_topic(node, "membership/updated")
    return _message(topic, "", now_ms, {"added_devices": came, "removed_devices": left})


def _read(payload: bytes, kind: type[_T]) -> _T:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise BadPayloadError(
            f"payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}"
        )
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadPayloadError(f"payload is not as documented: {exc}") from exc


def _message(topic: str, event_id: str, now_ms: int, more: JsonObject) -> Message:
    payload = {"event_id": event_id, "timestamp": now_ms, **more}
    return Message(topic, msgspec.json.encode(payload))


def _twin_or_none(device: Device, name: str, types: Mapping[str, str]) -> JsonObject | None:
    each = device.properties.get(name)
    return None if each is None else _twin(each, types)


def _full_or_none(device: Device, name: str, types: Mapping[str, str]) -> JsonObject | None:
    each = device.properties.get(name)
    return None if each is None else {**_twin(each, types), **_versions(each)}


def _twin(each: Property, types: Mapping[str, str]) -> JsonObject:
    twin: JsonObject = {}
    if each.desired is not None:
        twin["expected"] = _value(each.desired)
    if each.reported is not None:
        twin["actual"] = _value(each.reported)
    twin["optional"] = each.optional
    twin["metadata"] = {"type": types.get(each.name) or each.type or "string"}
    return twin


def _value(side: Side) -> JsonObject:
    value: JsonObject = {"value": side.value}
    if side.metadata:
        value["metadata"] = side.metadata
    return value


def _versions(each: Property) -> JsonObject:
    versions: JsonObject = {}
    for name, side in (("expected_version", each.desired), ("actual_version", each.reported)):
        if side is not None:
            versions[name] = {"cloud": side.cloud, "edge": side.edge}
    return versions
