"""Built-in kinds, checked against a table of their fields and types.

The table is ``builtin.json``, made by ``scripts/generate_schemas.py`` from the published OpenAPI
description. A type is a code: ``s`` text, ``i`` integer, ``n`` number, ``b`` boolean, ``t`` time,
``y`` base64, ``q`` quantity, ``x`` integer or text, ``o`` anything, ``[`` list of, ``{`` map of,
``#`` another type.

As a cluster does, a wrong type is refused, an unknown field is dropped and told, null is as absent.
"""

import binascii
import json
import re
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, Final

from fedge_apiserver.decoding import go_type

_QUANTITY: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
_QUANTITY_RULE: Final = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*")
_GO_TYPES: Final = {"s": "string", "i": "int64", "b": "bool", "n": "float64", "y": "[]uint8"}
_GO_TYPES_TIME = {"t": "v1.Time", "q": "resource.Quantity", "x": "intstr.IntOrString"}

_MAX_INT64 = 2**63


class MistypedError(ValueError):
    """A value that its field cannot hold; the message is the decoder's."""


@cache
def type_table() -> dict[str, dict[str, Any]]:
    """Return the fields (``f``) and required fields (``r``) of each type."""
    text = resources.files("fedge_apiserver.schema").joinpath("builtin.json").read_bytes()
    types: dict[str, dict[str, Any]] = json.loads(text)["types"]
    return types


def fields_of(type_name: str) -> dict[str, str]:
    """Return the fields of a type, with their codes."""
    fields: dict[str, str] = type_table()[type_name]["f"]
    return fields


def conform(value: dict[str, Any], type_name: str) -> list[str]:
    """Bring an object into its type's form, in place, and return the unknown fields' paths.

    Raises:
        MistypedError: a value does not fit its field.
    """
    unknown: list[str] = []
    _object(value, type_name, "", "", unknown)
    return unknown


def _object(
    value: dict[str, Any], type_name: str, path: str, go_path: str, unknown: list[str]
) -> None:
    fields = type_table()[type_name]["f"]
    for key in list(value):
        code = fields.get(key)
        here = f"{path}.{key}" if path else key
        if code is None:
            unknown.append(here)
            del value[key]
            continue
        item = value[key]
        if item is None:
            del value[key]
            continue
        if code == "s" and type(item) is str:
            continue
        go_here = f"{go_path}.{key}" if go_path else key
        value[key] = _value(item, code, type_name, here, go_here, unknown)


def _value(  # noqa: PLR0911, PLR0912, C901 - one branch per code
    value: Any, code: str, owner: str, path: str, go_path: str, unknown: list[str]
) -> Any:
    match code[0]:
        case "s":
            if isinstance(value, str):
                return value
        case "#":
            if isinstance(value, dict):
                _object(value, code[1:], path, go_path, unknown)
                return value
        case "[":
            if isinstance(value, list):
                inner = code[1:]
                return [
                    _item(item, inner, owner, f"{path}[{index}]", go_path, unknown)
                    for index, item in enumerate(value)
                ]
        case "{":
            if isinstance(value, dict):
                inner = code[1:]
                return {
                    key: _item(item, inner, owner, f"{path}.{key}", go_path, unknown)
                    for key, item in value.items()
                }
        case "i":
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if (
                isinstance(value, int)
                and not isinstance(value, bool)
                and -_MAX_INT64 <= value < _MAX_INT64
            ):
                return value
        case "b":
            if isinstance(value, bool):
                return value
        case "n":
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value
        case "t":
            if isinstance(value, str):
                return _time(value)
        case "y":
            if isinstance(value, str):
                return _base64(value)
        case "q":
            return _quantity(value)
        case "x":
            if isinstance(value, int | str) and not isinstance(value, bool):
                return value
        case _:
            return value
    raise _mistyped(value, code, owner, go_path)


def _item(value: Any, code: str, owner: str, path: str, go_path: str, unknown: list[str]) -> Any:
    if value is None:
        # Go's zero value: an empty struct, text or number.
        return {"#": {}, "[": [], "{": {}, "i": 0, "b": False, "n": 0, "o": None}.get(code[0], "")
    return _value(value, code, owner, path, go_path, unknown)


def _mistyped(value: Any, code: str, owner: str, go_path: str) -> MistypedError:
    if isinstance(value, int | float) and not isinstance(value, bool) and code == "i":
        shown = f"number {value}"
    else:
        shown = go_type(value)
    return MistypedError(
        f"json: cannot unmarshal {shown} into Go struct field {owner}.{go_path} "
        f"of type {_go_name(code)}"
    )


def _go_name(code: str) -> str:
    match code[0]:
        case "#":
            return f"v1.{code[1:]}"
        case "[":
            return f"[]{_go_name(code[1:])}"
        case "{":
            return f"map[string]{_go_name(code[1:])}"
        case _:
            return _GO_TYPES.get(code) or _GO_TYPES_TIME.get(code, "interface {}")


def _time(text: str) -> str:
    if _TIME.fullmatch(text):
        try:
            datetime.fromisoformat(text[:19])
        except ValueError as exc:
            raise MistypedError(f'parsing time "{text}": {exc}') from exc
        return text
    raise MistypedError(
        f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": '
        f'cannot parse "{text}" as "2006-01-02T15:04:05Z07:00"'
    )


def _quantity(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise MistypedError(_QUANTITY_RULE)
    text = value if isinstance(value, str) else repr(value)
    if not _QUANTITY.fullmatch(text):
        raise MistypedError(_QUANTITY_RULE)
    return text


def _base64(text: str) -> str:
    clean = text.replace("\n", "").replace("\r", "")
    matched = _BASE64.match(clean)
    good = matched.end() if matched else 0
    rest = clean[good:]
    if rest.strip("=") or len(rest) > 2 or len(clean) % 4:  # noqa: PLR2004 - base64's padding
        at = good if rest.strip("=") or not rest else len(clean)
        raise MistypedError(f"illegal base64 data at input byte {min(at, len(clean))}")
    try:
        binascii.a2b_base64(clean, strict_mode=True)
    except binascii.Error as exc:
        raise MistypedError(f"illegal base64 data at input byte {good}") from exc
    return clean
