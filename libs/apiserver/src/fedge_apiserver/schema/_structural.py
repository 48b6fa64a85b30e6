"""Custom resources against their definition's structural schema.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

import copy
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from fedge_apiserver.errors import Causes

_META: Final = ("apiVersion", "kind", "metadata")
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_FORMATS: Final[dict[str, Callable[[Any], bool]]] = {
    "date-time": lambda value: bool(_DATE_TIME.fullmatch(value)),
    "date": lambda value: bool(re.fullmatch(r"\d{4}-\d\d-\d\d", value)),
    "int32": lambda value: -(2**31) <= value < 2**31,
    "int64": lambda value: -(2**63) <= value < 2**63,
    "byte": lambda value: bool(re.fullmatch(r"[A-Za-z0-9+/\r\n]*={0,2}", value)),
    "uuid": lambda value: bool(
        re.fullmatch(r"(?i)[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", value)
    ),
    "ipv4": lambda value: bool(re.fullmatch(r"(\d{1,3}\.){3}\d{1,3}", value)),
}


def prune(value: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Drop the fields that the schema does not know, in place, and return their paths."""
    unknown: list[str] = []
    _prune(value, schema, "", unknown, is_resource=True)
    return unknown


def fill_defaults(value: dict[str, Any], schema: dict[str, Any]) -> None:
    """Set the schema's defaults where a field is absent, in place."""
    _default(value, schema)


def check_structural(value: dict[str, Any], schema: dict[str, Any], causes: Causes) -> None:
    """Add to ``causes`` what the schema does not allow in an object."""
    _check({k: v for k, v in value.items() if k not in _META}, _without_meta(schema), "", causes)


def _without_meta(schema: dict[str, Any]) -> dict[str, Any]:
    required = [name for name in schema.get("required", ()) if name not in _META]
    properties = {k: v for k, v in schema.get("properties", {}).items() if k not in _META}
    return {**schema, "required": required, "properties": properties}


def _prune(
    value: Any, schema: dict[str, Any], path: str, unknown: list[str], *, is_resource: bool
) -> None:
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, dict):
            for index, item in enumerate(value):
                is_embedded = bool(items.get("x-kubernetes-embedded-resource"))
                _prune(item, items, f"{path}[{index}]", unknown, is_resource=is_embedded)
        return
    if not isinstance(value, dict):
        return
    properties = schema.get("properties", {})
    additional = schema.get("additionalProperties")
    keeps = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or additional is True
    for key in list(value):
        here = f"{path}.{key}" if path else key
        if is_resource and key in _META:
            continue
        inner = properties.get(key)
        if inner is None and isinstance(additional, dict):
            inner = additional
        if inner is not None:
            is_embedded = bool(inner.get("x-kubernetes-embedded-resource"))
            _prune(value[key], inner, here, unknown, is_resource=is_embedded)
        elif not keeps:
            unknown.append(here)
            del value[key]


def _default(value: Any, schema: dict[str, Any]) -> None:
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, dict):
            for item in value:
                _default(item, items)
        return
    if not isinstance(value, dict):
        return
    properties: dict[str, Any] = schema.get("properties", {})
    for key, inner in properties.items():
        if "default" in inner and (
            key not in value or (value[key] is None and not inner.get("nullable"))
        ):
            value[key] = copy.deepcopy(inner["default"])
        if key in value:
            _default(value[key], inner)
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        for key, item in value.items():
            if key not in properties:
                _default(item, additional)


def _check(  # noqa: C901, PLR0912 - one branch per keyword
    value: Any, schema: dict[str, Any], path: str, causes: Causes
) -> None:
    if value is None:
        if not schema.get("nullable") and schema.get("type"):
            _wrong_type(path, "null", str(schema["type"]), causes)
        return
    if not _has_type(value, schema):
        wanted = str(schema.get("type", "integer,string"))
        _wrong_type(path, _type_of(value), wanted, causes)
        return
    enum = schema.get("enum")
    if enum is not None and value not in enum:
        causes.not_supported(path, value, [str(item) for item in enum])
    if isinstance(value, str):
        _check_text(value, schema, path, causes)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, schema, path, causes)
    elif isinstance(value, list):
        _check_list(value, schema, path, causes)
    elif isinstance(value, dict):
        _check_map(value, schema, path, causes)
    known_format = _FORMATS.get(schema.get("format", ""))
    if known_format is not None and not isinstance(value, dict | list | bool):
        wants_text = schema.get("type") == "string"
        if wants_text == isinstance(value, str) and not known_format(value):
            causes.invalid(
                path, value, f"{path} in body must be of type {schema['format']}: {_shown(value)}"
            )
    for inner in schema.get("allOf", ()):
        _check(value, inner, path, causes)
    if (any_of := schema.get("anyOf")) and not any(_fits(value, s, path) for s in any_of):
        causes.invalid(path, "", f'"{path}" must validate at least one schema (anyOf)')
    if one_of := schema.get("oneOf"):
        matching = sum(_fits(value, s, path) for s in one_of)
        if matching != 1:
            found = "none valid" if not matching else f"valid: {matching}"
            causes.invalid(
                path, "", f'"{path}" must validate one and only one schema (oneOf). Found {found}'
            )
    if (negated := schema.get("not")) and _fits(value, negated, path):
        causes.invalid(path, "", f'"{path}" must not validate the schema (not)')


def _fits(value: Any, schema: dict[str, Any], path: str) -> bool:
    found = Causes()
    _check(value, schema, path, found)
    return not found.found


def _has_type(value: Any, schema: dict[str, Any]) -> bool:
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, int | str) and not isinstance(value, bool)
    match schema.get("type"):
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return is_whole and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return True


def _type_of(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float():
            return "number"
        case list():
            return "array"
        case _:
            return "object"


def _wrong_type(path: str, found: str, wanted: str, causes: Causes) -> None:
    causes.type_invalid(path, found, f'{path} in body must be of type {wanted}: "{found}"')


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _check_text(value: str, schema: dict[str, Any], path: str, causes: Causes) -> None:
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if longest is not None and len(value) > longest:
        causes.too_long(path, f"may not be more than {longest} bytes")
    if shortest is not None and len(value) < shortest:
        causes.invalid(path, value, f"{path} in body should be at least {shortest} chars long")
    pattern = schema.get("pattern")
    if pattern is not None and not _pattern(pattern).search(value):
        causes.invalid(path, value, f"{path} in body should match '{pattern}'")


def _check_number(value: float, schema: dict[str, Any], path: str, causes: Causes) -> None:
    most, least = schema.get("maximum"), schema.get("minimum")
    if most is not None:
        is_open = bool(schema.get("exclusiveMaximum"))
        if value > most or (is_open and value == most):
            text = "less than" if is_open else "less than or equal to"
            causes.invalid(path, value, f"{path} in body should be {text} {most:g}")
    if least is not None:
        is_open = bool(schema.get("exclusiveMinimum"))
        if value < least or (is_open and value == least):
            text = "greater than" if is_open else "greater than or equal to"
            causes.invalid(path, value, f"{path} in body should be {text} {least:g}")
    step = schema.get("multipleOf")
    if step and value % step:
        causes.invalid(path, value, f"{path} in body should be a multiple of {step:g}")


def _check_list(value: list[Any], schema: dict[str, Any], path: str, causes: Causes) -> None:
    most, least = schema.get("maxItems"), schema.get("minItems")
    if most is not None and len(value) > most:
        causes.too_many(path, len(value), most)
    if least is not None and len(value) < least:
        causes.invalid(path, len(value), f"{path} in body should have at least {least} items")
    items = schema.get("items")
    if isinstance(items, dict):
        for index, item in enumerate(value):
            _check(item, items, f"{path}[{index}]", causes)
    keys: tuple[str, ...] | None = None
    match schema.get("x-kubernetes-list-type"):
        case "map":
            keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        case "set":
            keys = ()
        case _ if schema.get("uniqueItems"):
            keys = ()
    if keys is None:
        return
    seen: list[Any] = []
    for index, item in enumerate(value):
        same = {k: item.get(k) for k in keys} if keys and isinstance(item, dict) else item
        if same in seen:
            causes.duplicate(f"{path}[{index}]", same)
        seen.append(same)


def _check_map(value: dict[str, Any], schema: dict[str, Any], path: str, causes: Causes) -> None:
    for name in schema.get("required", ()):
        if name not in value:
            causes.required(f"{path}.{name}" if path else name)
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if most is not None and len(value) > most:
        causes.invalid(path, len(value), f"{path} in body should have at most {most} properties")
    if least is not None and len(value) < least:
        causes.invalid(path, len(value), f"{path} in body should have at least {least} properties")
    properties = schema.get("properties", {})
    additional = schema.get("additionalProperties")
    for key, item in value.items():
        here = f"{path}.{key}" if path else key
        if key in properties:
            _check(item, properties[key], here, causes)
        elif isinstance(additional, dict):
            _check(item, additional, here, causes)
