"""Reading the fields of a message's data: type and bounds, or the reason why not.

What a message says was written by another machine, maybe a broken one. A number without bounds can
cost memory or time, and one that JSON can say and a float cannot ends in an error of its own.
"""

from typing import Any

from fedge_fabric.errors import MalformedError
from fedge_objects import ObjectKey

MAX_TEXT = 4096
MAX_WHOLE = 2**63 - 1
MIN_INTERVAL_SECONDS = 0.1
MAX_INTERVAL_SECONDS = 3600.0
"""No node says more seldom that it is alive; it would count as present long after it has gone."""


def mapping(data: object) -> dict[str, Any]:
    """Return data that has to be an object.

    Raises:
        MalformedError: it is none; so for every function here.
    """
    if not isinstance(data, dict):
        raise MalformedError(f"expected an object in the message, found {type(data).__name__}")
    return data


def part(data: object, name: str) -> dict[str, Any]:
    """Return the object in a field."""
    value = mapping(data).get(name)
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    return value


def array(data: object, name: str) -> list[Any]:
    """Return the list in a field."""
    value = mapping(data).get(name)
    if not isinstance(value, list):
        raise _wrong(name, value, "a list")
    return value


def text(data: object, name: str, *, default: str | None = None, most: int = MAX_TEXT) -> str:
    """Return the text in a field; ``default`` if there is none."""
    value = mapping(data).get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or len(value) > most:
        raise _wrong(name, value, f"a text of at most {most} characters")
    return value


def flag(data: object, name: str, *, default: bool | None = None) -> bool:
    """Return the truth value in a field; ``default`` if there is none."""
    value = mapping(data).get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def whole(
    data: object, name: str, *, default: int | None = None, least: int = 0, most: int = MAX_WHOLE
) -> int:
    """Return the whole number in a field; ``default`` if there is none."""
    value = mapping(data).get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(name, value, f"a whole number from {least} to {most}")
    return value


def number(data: object, name: str, *, least: float, most: float) -> float:
    """Return the number in a field."""
    value = mapping(data).get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(name, value, f"a number from {least:g} to {most:g}")
    return float(value)


def interval(data: object) -> float:
    """Return how often a node means to be heard, in seconds, as its heartbeat says."""
    return number(data, "interval_seconds", least=MIN_INTERVAL_SECONDS, most=MAX_INTERVAL_SECONDS)


def key_in(value: object) -> ObjectKey:
    """Return the object key that a text is."""
    try:
        return ObjectKey.parse(str(value))
    except ValueError as exc:
        raise MalformedError(str(exc)) from exc


def _wrong(name: str, value: object, expected: str) -> MalformedError:
    return MalformedError(f"{name!r} of the message is {shown(value)}: expected {expected}")


def shown(value: object) -> str:
    """Return a value for a reason, in short."""
    if value is None:
        return "missing"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_WHOLE:
        return "a number beyond all bounds"
    return repr(value)[:64]
