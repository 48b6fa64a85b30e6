"""Whether a definition's schema is structural, so that the rest may rely on it."""

import re
from typing import Any

from fedge_apiserver.errors import Causes

_TYPES = ("array", "boolean", "integer", "number", "object", "string")


def check_schema(schema: Any, path: str, causes: Causes) -> None:
    """Add to ``causes`` what keeps an OpenAPI schema from being structural."""
    if not isinstance(schema, dict):
        causes.invalid(path, schema, "must be an object")
        return
    kind = schema.get("type")
    is_free = schema.get("x-kubernetes-int-or-string") or schema.get(
        "x-kubernetes-preserve-unknown-fields"
    )
    if kind is None:
        if not is_free:
            causes.required(f"{path}.type", "must not be empty for specified object fields")
    elif kind not in _TYPES:
        causes.not_supported(f"{path}.type", kind, _TYPES)
    _check_pattern(schema.get("pattern"), f"{path}.pattern", causes)
    if "$ref" in schema:
        causes.forbidden(f"{path}.$ref", "$ref is not supported")
    if kind == "array" and not isinstance(schema.get("items"), dict):
        causes.required(f"{path}.items", "must be specified")
    if schema.get("properties") and isinstance(schema.get("additionalProperties"), dict):
        causes.forbidden(
            f"{path}.additionalProperties",
            "additionalProperties and properties are mutual exclusive",
        )
    _check_inner(schema, path, causes)


def _check_pattern(pattern: Any, path: str, causes: Causes) -> None:
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except (re.error, TypeError):
        causes.invalid(path, pattern, "must be a valid regular expression")


def _check_inner(schema: dict[str, Any], path: str, causes: Causes) -> None:
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        causes.invalid(f"{path}.properties", "", "must be an object")
        return
    for name, inner in properties.items():
        check_schema(inner, f"{path}.properties[{name}]", causes)
    if isinstance(schema.get("items"), dict):
        check_schema(schema["items"], f"{path}.items", causes)
    if isinstance(schema.get("additionalProperties"), dict):
        check_schema(schema["additionalProperties"], f"{path}.additionalProperties", causes)
