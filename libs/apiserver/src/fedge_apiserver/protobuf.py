"""Kubernetes' protobuf bodies, as far as ``kubectl`` sends them.

``kubectl create configmap`` and its like, ``kubectl auth can-i`` and typed Go clients write
protobuf; answers they take as JSON. Types come from the table of the built-in kinds; the numbers of
their fields are in ``schema/protobuf.json``, made by ``scripts/generate_protobuf.py``.

https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
"""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any, Final

from fedge_apiserver.schema import fields_of

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\0"

_ZERO_IS_ABSENT: Final = frozenset(
    {
        "containerPort",
        "failureThreshold",
        "generation",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostPort",
        "initialDelaySeconds",
        "jobTemplate",
        "lastState",
        "metadata",
        "minReadySeconds",
        "partition",
        "paused",
        "periodSeconds",
        "readOnly",
        "resources",
        "restartCount",
        "source",
        "spec",
        "state",
        "status",
        "stdin",
        "stdinOnce",
        "strategy",
        "successThreshold",
        "template",
        "timeoutSeconds",
        "tty",
        "unschedulable",
        "updateStrategy",
    }
)
"""Fields that Go keeps by value and so writes always; zero or empty, JSON leaves them out."""


@cache
def _numbers() -> dict[str, dict[int, str]]:
    """Return the fields of each message by number; ``*Message`` is one that JSON spreads out."""
    text = resources.files("fedge_apiserver.schema").joinpath("protobuf.json").read_bytes()
    return {
        message: {int(number): name for number, name in fields.items()}
        for message, fields in json.loads(text).items()
    }


class UnknownTypeError(ValueError):
    """A kind or field that is not read from protobuf."""


def decode_protobuf(body: bytes, type_name: str) -> dict[str, Any]:
    """Return the object in a protobuf body.

    Args:
        body: as received, with Kubernetes' envelope.
        type_name: the built-in type that is expected.

    Raises:
        UnknownTypeError: the type, or a field in it, is not known here: send JSON.
        ValueError: the body is no such message.
    """
    if type_name not in _numbers():
        raise UnknownTypeError(f"{type_name} is not read from protobuf")
    if not body.startswith(_MAGIC):
        raise ValueError("provided data does not appear to be a protobuf message, expected prefix")
    value: dict[str, Any] = {}
    message: dict[str, Any] = {}
    for number, item in _fields(body[len(_MAGIC) :]):
        if number == 1 and isinstance(item, bytes):
            names = {n: _bytes(raw).decode() for n, raw in _fields(item)}
            value = {"apiVersion": names.get(1, ""), "kind": names.get(2, "")}
        elif number == 2 and isinstance(item, bytes):  # noqa: PLR2004 - the envelope's field
            message = _message(item, type_name)
    return {key: item for key, item in value.items() if item} | message


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                number, at = _varint(data, at)
                yield tag >> 3, number
            case 2:
                size, at = _varint(data, at)
                if at + size > len(data):
                    raise ValueError("unexpected EOF")
                yield tag >> 3, data[at : at + size]
                at += size
            case wire:
                raise ValueError(f"proto: illegal wireType {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, at
        shift += 7
        if shift > 63:  # noqa: PLR2004 - 64 bits
            break
    raise ValueError("unexpected EOF")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("proto: wrong wireType")  # noqa: TRY004 - the data is wrong, not the code
    return value


def _message(data: bytes, type_name: str, fields_as: str = "") -> dict[str, Any]:
    """Return a message's fields.

    Args:
        data: the message.
        type_name: what numbers its fields have.
        fields_as: the type that its fields belong to in JSON; empty, its own.
    """
    numbers = _numbers().get(type_name)
    if numbers is None:
        raise UnknownTypeError(f"{type_name} is not read from protobuf")
    codes = fields_of(fields_as or type_name)
    value: dict[str, Any] = {}
    for number, item in _fields(data):
        name = numbers.get(number)
        if name is None:
            raise UnknownTypeError(f"field {number} of {type_name} is not read from protobuf")
        if name.startswith("*"):
            value.update(_message(_bytes(item), name[1:], fields_as or type_name))
            continue
        code = codes[name]
        match code[0]:
            case "[":
                value.setdefault(name, []).append(_value(item, code[1:]))
            case "{":
                pair = dict(_fields(_bytes(item)))
                key = _bytes(pair.get(1, b"")).decode()
                value.setdefault(name, {})[key] = _value(pair.get(2, b""), code[1:])
            case _:
                decoded = _value(item, code)
                is_zero = not decoded and name in _ZERO_IS_ABSENT
                if decoded not in ("", None) and not is_zero:
                    value[name] = decoded
    return value


def _value(item: int | bytes, code: str) -> Any:  # noqa: PLR0911 - one per code
    match code[0]:
        case "#":
            return _message(_bytes(item), code[1:])
        case "s":
            return _bytes(item).decode()
        case "q":
            return _bytes(dict(_fields(_bytes(item))).get(1, b"")).decode()
        case "y":
            return base64.b64encode(_bytes(item)).decode()
        case "b":
            return bool(item)
        case "i":
            if isinstance(item, bytes):
                raise ValueError("proto: wrong wireType")  # noqa: TRY004 - the data is wrong
            return item - 2**64 if item >= 2**63 else item
        case "x":
            return _int_or_string(_bytes(item))
        case "t":
            return _time(_bytes(item))
        case "o":
            # Anything, as JSON in a message of its own: what server-side apply knows of fields.
            raw = _bytes(dict(_fields(_bytes(item))).get(1, b""))
            return _json(raw) if raw else None
        case "[":
            return [_value(each, code[1:]) for _, each in _fields(_bytes(item))]
        case _:
            raise UnknownTypeError(f"a field of type {code!r} is not read from protobuf")


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except RecursionError as exc:
        raise ValueError("json: exceeded max depth") from exc


def _int_or_string(data: bytes) -> int | str:
    parts = dict(_fields(data))
    if parts.get(1, 0):
        return _bytes(parts.get(3, b"")).decode()
    number = parts.get(2, 0)
    if isinstance(number, bytes):
        raise ValueError("proto: wrong wireType")  # noqa: TRY004 - the data is wrong
    return number - 2**64 if number >= 2**63 else number


def _time(data: bytes) -> str | None:
    parts = {number: item for number, item in _fields(data) if isinstance(item, int)}
    seconds = parts.get(1, 0)
    if not seconds or seconds >= 2**63:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    if nanos := parts.get(2, 0):
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos // 1000:06d}Z"
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
