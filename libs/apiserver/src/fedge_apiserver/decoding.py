"""Request bodies into objects, with what is doubtful in them.

JSON and YAML are accepted. A field that occurs twice in one object is found here, because it is
lost once decoded; fields that a kind does not have are found by ``schema``.

https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from fedge_apiserver.errors import ApiError, bad_request, unsupported_media_type

JSON: Final = "application/json"
YAML: Final = "application/yaml"
_SUMMARY_BYTES = 30


class _Doubled(dict[str, Any]):
    """An object of which some keys occurred twice."""

    doubled: tuple[str, ...] = ()


class _YamlError(ValueError):
    """Text that is no YAML."""


def media_type(header: str) -> str:
    """Return a Content-Type without its parameters."""
    return header.partition(";")[0].strip().lower()


def decode_object(
    body: bytes, content_type: str, kind: str, type_name: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return a body's object and the complaints about fields that occur twice.

    Args:
        body: as received.
        content_type: the Content-Type header; empty means JSON.
        kind: what is expected, for the message.
        type_name: the built-in type of it; None for a custom one, which has no protobuf form.

    Raises:
        ApiError: 415 for another content type, 400 for what does not parse or is no object.
    """
    match media_type(content_type):
        case "" | "application/json":
            value = _loads(body, kind)
        case "application/yaml" | "application/x-yaml" | "text/yaml":
            value = _loads_yaml(body, kind)
        case "application/vnd.kubernetes.protobuf" if type_name is not None:
            value = _load_protobuf(body, kind, type_name)
        case _:
            raise unsupported_media_type([JSON, YAML])
    if not isinstance(value, dict):
        raise _unrecognized(kind, f"json: cannot unmarshal {go_type(value)} into Go value", body)
    return value, [f'duplicate field "{path}"' for path in _doubled(value, "")]


def decode_json(body: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is none; the message says so as Go does.
    """
    try:
        return json.loads(body, object_pairs_hook=_pairs, parse_constant=_no_constant)
    except json.JSONDecodeError as exc:
        if exc.pos >= len(exc.doc.rstrip()):
            raise ValueError("unexpected end of JSON input") from exc
        raise ValueError(
            f"invalid character {exc.doc[exc.pos]!r} looking for beginning of value"
        ) from exc
    except RecursionError as exc:
        raise ValueError("exceeded max depth") from exc


def decode_yaml(body: bytes) -> Any:
    """Return the value of a YAML (or JSON) text.

    Raises:
        ValueError: it is neither.
    """
    if body[:1] in (b"{", b"["):
        return decode_json(body)
    import yaml  # noqa: PLC0415 - most requests are JSON

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(loader):  # type: ignore[misc, valid-type]  # chosen at run time
        """YAML without dates: Kubernetes knows them as text."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in loader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(body, Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError) as exc:
        raise _YamlError(" ".join(str(exc).split())) from exc


def go_type(value: object) -> str:
    """Return what Go's JSON decoder calls a value's type."""
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
        case None:
            return "null"
        case _:
            return "object"


def _loads(body: bytes, kind: str) -> Any:
    try:
        return decode_json(body)
    except ValueError as exc:
        raise _unrecognized(
            kind, f"couldn't get version/kind; json parse error: {exc}", body
        ) from exc


def _loads_yaml(body: bytes, kind: str) -> Any:
    try:
        return decode_yaml(body)
    except ValueError as exc:
        raise _unrecognized(kind, f"yaml: {exc}", body) from exc


def _load_protobuf(body: bytes, kind: str, type_name: str) -> Any:
    from fedge_apiserver.protobuf import (  # noqa: PLC0415 - rare, and it needs the type table
        UnknownTypeError,
        decode_protobuf,
    )

    try:
        return decode_protobuf(body, type_name)
    except UnknownTypeError as exc:
        raise unsupported_media_type([JSON, YAML]) from exc
    except ValueError as exc:
        raise _unrecognized(kind, str(exc), body) from exc


def _unrecognized(kind: str, reason: str, body: bytes) -> ApiError:
    shown = body[:_SUMMARY_BYTES].hex()
    if len(body) > _SUMMARY_BYTES:
        shown += " ..."
    return bad_request(
        f"the object provided is unrecognized (must be of type {kind}): {reason} ({shown})"
    )


def _no_constant(text: str) -> Any:
    raise ValueError(f"invalid character {text[0]!r} looking for beginning of value")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    marked = _Doubled(value)
    marked.doubled = tuple(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add returns None, which is the point
    return marked


def _doubled(value: Any, path: str) -> Iterator[str]:
    """Yield the paths of doubled fields; cheap when there are none."""
    if isinstance(value, dict):
        if isinstance(value, _Doubled):
            for key in value.doubled:
                yield f"{path}.{key}" if path else key
        for key, item in value.items():
            if isinstance(item, dict | list):
                yield from _doubled(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict | list):
                yield from _doubled(item, f"{path}[{index}]")
