"""What a device's word does to its twin.

All of an update is taken or none of it. Reported values are the device's own; desired values may be
wished at the edge too, until the cloud's manifest says otherwise (see ``declaring``).
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from msgspec import UNSET, UnsetType

from fedge_twin.device import Device, Model, ModelProperty, Property, Side, as_text
from fedge_twin.payloads import GivenProperty, GivenValue, UpdateAsked

STATES = frozenset({"online", "offline", "ok", "unknown", "unhealthy"})
_ONLINE = frozenset({"online", "ok"})
_NAME = re.compile(r"^[a-zA-Z0-9\-_.,:/@#]{1,128}$")
_UNCHECKED = frozenset({"string", "bytes", "stream"})
_DELETED = "deleted"


class RefusedError(ValueError):
    """An update that is not taken. The text names the property and what is wrong."""


def update(device: Device, asked: UpdateAsked, model: Model) -> Device:
    """Return the device after an update.

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
        else:
            properties[name] = _changed(known or Property(name=name), given, model.get(name))
    return replace(device, properties=properties, sequence=device.sequence + 1)


def set_state(device: Device, state: str, now: str) -> Device:
    """Return the device in another state.

    Raises:
        RefusedError: there is no such state.
    """
    if state not in STATES:
        raise RefusedError(f"state {state!r} is unknown: use one of {', '.join(sorted(STATES))}")
    last_online = now if state in _ONLINE else device.last_online
    return replace(device, state=state, last_online=last_online, sequence=device.sequence + 1)


def types_of(device: Device, model: Model) -> Mapping[str, str]:
    """Return the types of a device's properties as its model says."""
    return {name: model[name].type for name in device.properties if name in model}


def _delete(properties: dict[str, Property], name: str) -> None:
    known = properties.get(name)
    if known is None:
        return
    if not known.optional:
        raise RefusedError(f"property {name!r} is not optional and cannot be deleted")
    if known.in_manifest:
        properties[name] = replace(known, reported=None)
    else:
        del properties[name]


def _changed(known: Property, given: GivenProperty, of_model: ModelProperty | None) -> Property:
    declared = (given.metadata or {}).get("type")
    if declared is not None and not isinstance(declared, str):
        raise RefusedError(f"type of property {known.name!r} is no string")
    rule = of_model or ModelProperty(type=(declared or known.type or "string").lower())
    if rule.type not in _UNCHECKED and rule.type not in _CHECKS:
        raise RefusedError(f"type {rule.type!r} of property {known.name!r} is unknown")
    return replace(
        known,
        type=(declared or known.type).lower(),
        optional=known.optional if given.optional is None else given.optional,
        reported=_side(known.name, known.reported, given.actual, rule),
        desired=_side(known.name, known.desired, given.expected, rule),
    )


def _side(
    name: str, before: Side | None, given: GivenValue | UnsetType | None, rule: ModelProperty
) -> Side | None:
    if given is UNSET or given is None or isinstance(given, UnsetType):
        return before
    problem = _problem(given.value, rule)
    if problem:
        raise RefusedError(f"value {as_text(given.value)[:64]!r} of property {name!r} {problem}")
    return Side(
        value=given.value,
        metadata=given.metadata or {},
        cloud=before.cloud if before else 0,
        edge=before.edge + 1 if before else 1,
    )


def _problem(value: Any, rule: ModelProperty) -> str:
    """Return what is wrong with a value; empty if nothing is."""
    check = _CHECKS.get(rule.type)
    if check is None:
        return "" if value is not None else "is null"
    number = check(as_text(value))
    if number is None:
        return f"is no {rule.type}"
    if rule.minimum is not None and number < rule.minimum:
        return f"is below the minimum of {rule.minimum:g}"
    if rule.maximum is not None and number > rule.maximum:
        return f"is above the maximum of {rule.maximum:g}"
    return ""


def _as_int(text: str) -> float | None:
    try:
        return int(text)
    except ValueError:
        return None


def _as_float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _as_bool(text: str) -> float | None:
    return {"true": 1.0, "false": 0.0}.get(text.lower())


_CHECKS: Mapping[str, Callable[[str], float | None]] = {
    "int": _as_int,
    "integer": _as_int,
    "float": _as_float,
    "double": _as_float,
    "boolean": _as_bool,
}
