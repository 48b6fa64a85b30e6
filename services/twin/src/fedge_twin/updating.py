"""What a device's word does to its twin.

All of an update is taken or none of it. Reported values are the device's own; desired values may be
wished at the edge too (see ``merging``).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as changed

from fedge_devices import (
    MAX_PROPERTIES,
    Model,
    ModelProperty,
    as_text,
    problem_of,
)
from fedge_twin.device import Device, Property, Side
from fedge_twin.merging import wished_at_edge, withdrawn_at_edge
from fedge_twin.payloads import GivenProperty, GivenValue, UpdateAsked

STATES = frozenset({"online", "offline", "ok", "unknown", "unhealthy"})
MAX_VALUE_BYTES = 64 * 1024
MAX_DEVICE_BYTES = 512 * 1024
"""Of all values of a device: the Kubernetes API takes an object of 1.5 MB at most."""
_ONLINE = frozenset({"online", "ok"})
_NAME = re.compile(r"^[a-zA-Z0-9\-_.,:/@#]{1,128}$")
_DELETED = "deleted"
_BAD, _NOT_FOUND = 400, 404
_SMALL = 1024
_TIMESTAMP = "timestamp"


class RefusedError(ValueError):
    """An update that is not taken. The text names the property and what is wrong."""

    def __init__(self, reason: str, code: int = _BAD) -> None:
        super().__init__(reason)
        self.code = code


def update(device: Device, asked: UpdateAsked, model: Model | None, now: int) -> Device:
    """Return the device after an update.

    Args:
        device: as it was.
        asked: the update.
        model: what its model says; None if it has none, or it is not known yet.
        now: a stamp.

    Raises:
        RefusedError: a name, type or value of it is wrong.
    """
    if not asked.twin:
        raise RefusedError("twin names no property")
    properties = dict(device.properties)
    for name, given in asked.twin.items():
        if not _NAME.match(name):
            raise RefusedError(
                f"property name {name[:130]!r} is wrong: use 1 to 128 of letters, digits, -_.,:/@#"
            )
        known = properties.get(name)
        if given is None or (given.metadata or {}).get("type") == _DELETED:
            _delete(properties, name)
            continue
        if known is None and model is not None and name not in model:
            raise RefusedError(
                f"property {name!r} is neither in the device's model nor in its manifest",
                _NOT_FOUND,
            )
        if known is None:
            known = Property(name=name)
        properties[name] = _changed(known, given, (model or {}).get(name), now)
    after = replace(device, properties=properties)
    _check_size(device, after)
    return after


def set_state(device: Device, state: str, now: str) -> Device:
    """Return the device in another state.

    Raises:
        RefusedError: there is no such state.
    """
    if state not in STATES:
        raise RefusedError(
            f"state {state[:64]!r} is unknown: use one of {', '.join(sorted(STATES))}"
        )
    last_online = now if state in _ONLINE else device.last_online
    return replace(device, state=state, last_online=last_online)


def types_of(device: Device, model: Model | None) -> Mapping[str, str]:
    """Return the types of a device's properties as its model says."""
    known = model or {}
    return {name: known[name].type for name in device.properties if name in known}


def _delete(properties: dict[str, Property], name: str) -> None:
    known = properties.get(name)
    if known is None:
        return
    if not known.optional:
        raise RefusedError(f"property {name!r} is not optional and cannot be deleted")
    if known.in_manifest:
        properties[name] = changed(known, reported=None)
    else:
        del properties[name]


def _changed(
    known: Property, given: GivenProperty, of_model: ModelProperty | None, now: int
) -> Property:
    said = (given.metadata or {}).get("type")
    if said is not None and not isinstance(said, str):
        raise RefusedError(f"type of property {known.name!r} is no string")
    rule = of_model or ModelProperty(type=(said or known.type or "string").lower())
    after = changed(
        known,
        type=(said or known.type).lower(),
        optional=known.optional if given.optional is None else given.optional,
    )
    if isinstance(given.actual, GivenValue):
        _check(known.name, given.actual, rule, is_desired=False)
        after = changed(after, reported=_reported(known.reported, given.actual, now))
    if isinstance(given.expected, GivenValue):
        if given.expected.value is None:
            after = withdrawn_at_edge(after)
        else:
            _check(known.name, given.expected, rule, is_desired=True)
            after = wished_at_edge(after, given.expected.value, given.expected.metadata or {}, now)
    return after


def _reported(before: Side | None, given: GivenValue, now: int) -> Side:
    metadata = given.metadata or {}
    is_same = (
        before is not None
        and before.value == given.value
        and type(before.value) is type(given.value)
        and _lasting(before.metadata) == _lasting(metadata)
    )
    count = before.edge if before else 0
    return Side(
        value=given.value,
        metadata=metadata,
        cloud=before.cloud if before else 0,
        edge=count if is_same else count + 1,
        at=now,
    )


def _lasting(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    if _TIMESTAMP not in metadata:
        return metadata
    return {name: each for name, each in metadata.items() if name != _TIMESTAMP}


def _check(name: str, given: GivenValue, rule: ModelProperty, *, is_desired: bool) -> None:
    problem = problem_of(name, given.value, given.metadata or {}, rule, is_desired=is_desired)
    if problem is not None:
        raise RefusedError(problem.text)


def _check_size(before: Device, after: Device) -> None:
    """Refuse what no DeviceStatus could hold.

    Raises:
        RefusedError: a value or all of them are too large.
    """
    grown = [
        each for name, each in after.properties.items() if each is not before.properties.get(name)
    ]
    sizes = {each.name: _size(each) for each in grown}
    for name, size in sizes.items():
        if size > MAX_VALUE_BYTES:
            raise RefusedError(
                f"property {name!r} of {size} bytes is over the limit of {MAX_VALUE_BYTES}"
            )
    if len(after.properties) > max(MAX_PROPERTIES, len(before.properties)):
        raise RefusedError(f"a device can have {MAX_PROPERTIES} properties and no more")
    if len(after.properties) == len(before.properties) and max(sizes.values(), default=0) < _SMALL:
        return  # nearly all updates
    total = sum(map(_size, after.properties.values()))
    if total > max(MAX_DEVICE_BYTES, sum(map(_size, before.properties.values()))):
        raise RefusedError(
            f"the device's values would have {total} bytes in all, over the limit of"
            f" {MAX_DEVICE_BYTES}"
        )


def _size(each: Property) -> int:
    return sum(
        len(as_text(side.value)) + (len(as_text(side.metadata)) if side.metadata else 0)
        for side in (each.desired, each.reported)
        if side is not None
    )
