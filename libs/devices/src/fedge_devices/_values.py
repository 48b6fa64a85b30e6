"""Whether a value is one that a property can have."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from fedge_devices._models import Access, ModelProperty
from fedge_objects import JsonObject

_UNCHECKED = frozenset({"string", "bytes", "stream"})
SHOWN = 64


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a value.

    Attributes:
        reason: one word in CamelCase, as conditions have it.
        text: what is wrong and with which property.
    """

    reason: str
    text: str


def as_text(value: Any) -> str:
    """Return a JSON value as a string: a string as it is, anything else as its JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def problem_of(
    name: str,
    value: Any,
    metadata: JsonObject,
    rule: ModelProperty,
    *,
    is_desired: bool,
) -> Problem | None:
    """Return what is wrong with a value of a property; None if nothing is.

    Args:
        name: of the property.
        value: any JSON.
        metadata: what goes with it; ``unit`` must be the model's where both say one.
        rule: what the model says.
        is_desired: whether the value is wished rather than reported.
    """
    if is_desired and rule.access is Access.READ_ONLY:
        return Problem("ReadOnlyProperty", f"property {name!r} is read only: nobody can set it")
    if value is None:
        return Problem("NoValue", f"value of property {name!r} is null")
    unit = metadata.get("unit")
    if unit and rule.unit and str(unit) != rule.unit:
        return Problem(
            "WrongUnit", f"property {name!r} is in {rule.unit!r} by its model, not in {unit!r}"
        )
    check = _CHECKS.get(rule.type)
    if check is None:
        if rule.type in _UNCHECKED:
            return None
        return Problem("UnknownType", f"type {rule.type!r} of property {name!r} is unknown")
    return _number_problem(name, as_text(value), rule, check)


def _number_problem(
    name: str, text: str, rule: ModelProperty, check: Callable[[str], float | None]
) -> Problem | None:
    shown = f"value {text[:SHOWN]!r} of property {name!r}"
    number = check(text)
    if number is None:
        return Problem("WrongType", f"{shown} is no {rule.type}")
    if rule.minimum is not None and number < rule.minimum:
        return Problem("BelowMinimum", f"{shown} is below the minimum of {rule.minimum:g}")
    if rule.maximum is not None and number > rule.maximum:
        return Problem("AboveMaximum", f"{shown} is above the maximum of {rule.maximum:g}")
    return None


def _as_int(text: str) -> float | None:
    try:
        return int(text) if "_" not in text else None
    except ValueError:
        return None


def _as_float(text: str) -> float | None:
    try:
        number = float(text) if "_" not in text else math.nan
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
