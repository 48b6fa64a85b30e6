"""JSON values as rules see them."""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from fedge_apiserver.rules._source import field_name

_SCALAR_BYTES: Final = 8
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


@dataclass(slots=True)
class Weight:
    """How big a value is.

    Attributes:
        size: bytes of all its texts and scalars.
        longest: items of its longest list or map.
    """

    size: int = 0
    longest: int = 0


def to_cel(value: Any, schema: dict[str, Any], weight: Weight, *, is_root: bool = False) -> Any:
    """Return a value as a rule sees it; ``weight`` grows by it.

    Fields that the schema does not describe are left out; of metadata a rule sees the name.
    """
    if schema.get("x-kubernetes-int-or-string") or not isinstance(value, dict | list):
        return _scalar(value, schema, weight)
    weight.longest = max(weight.longest, len(value))
    if isinstance(value, list):
        items = schema.get("items") or {}
        return [to_cel(item, items, weight) for item in value]
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        weight.size += sum(map(len, value))
        return {key: to_cel(item, additional, weight) for key, item in value.items()}
    properties: dict[str, Any] = schema.get("properties") or {}
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = field_name(key)
        if key in properties and name is not None:
            found[name] = to_cel(item, properties[key], weight)
    if is_root or schema.get("x-kubernetes-embedded-resource"):
        meta = value.get("metadata")
        named = meta if isinstance(meta, dict) else {}  # else the schema has refused it
        found["metadata"] = {k: named[k] for k in ("name", "generateName") if k in named}
        found.update({k: value[k] for k in ("apiVersion", "kind") if k in value})
    return found


def _scalar(value: Any, schema: dict[str, Any], weight: Weight) -> Any:
    weight.size += len(value) if isinstance(value, str) else _SCALAR_BYTES
    if isinstance(value, str):
        return _text(value, schema.get("format"))
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _text(value: str, form: str | None) -> Any:
    """Return a text in its format's type; one that does not read stays a text."""
    try:
        match form:
            case "date" | "date-time":
                moment = datetime.fromisoformat(value.replace("z", "Z").replace("t", "T"))
                stamp = Timestamp()
                stamp.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
                return stamp
            case "duration":
                return duration(value)
            case "byte":
                return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return value
    return value


def duration(text: str) -> Duration:
    """Return a duration like ``1h30m``.

    Raises:
        ValueError: it is none.
    """
    sign = -1 if text.startswith("-") else 1
    rest = text.lstrip("+-")
    parts = _DURATION.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise ValueError(f"invalid duration {text!r}")
    nanos = sign * sum(int(float(number) * _NANOSECONDS[unit]) for number, unit in parts)
    made = Duration()
    made.FromNanoseconds(nanos)
    return made
