"""How parts of objects are laid out as text: facts, conditions, whole trees of fields."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_FACT_WIDTH = 18


def fact_lines(facts: Mapping[str, Any], *, indent: int = 0) -> Iterator[str]:
    """Yield ``Name: value`` lines; facts without a value are left out."""
    margin = " " * indent
    for name, value in facts.items():
        if value not in (None, "", [], {}):
            yield f"{margin}{name + ':':<{_FACT_WIDTH}}{value}"


def pair_lines(title: str, pairs: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield labels or annotations, one a line."""
    for index, (name, value) in enumerate((pairs or {}).items()):
        shown = title + ":" if index == 0 else ""
        yield f"{shown:<{_FACT_WIDTH}}{name}={value}"


def metadata_lines(obj: Mapping[str, Any]) -> Iterator[str]:
    """Yield an object's name, namespace, labels, annotations and times."""
    metadata = obj["metadata"]
    yield from fact_lines({"Name": metadata["name"], "Namespace": metadata.get("namespace")})
    yield from pair_lines("Labels", metadata.get("labels"))
    annotations = metadata.get("annotations") or {}
    hidden = "kubectl.kubernetes.io/last-applied-configuration"
    yield from pair_lines("Annotations", {k: v for k, v in annotations.items() if k != hidden})
    yield from fact_lines(
        {
            "Created": metadata.get("creationTimestamp"),
            "Deletion": metadata.get("deletionTimestamp"),
            "Finalizers": ", ".join(metadata.get("finalizers") or ()),
        }
    )


def condition_lines(conditions: Iterable[Mapping[str, Any]] | None) -> Iterator[str]:
    """Yield conditions with their reasons."""
    conditions = list(conditions or ())
    if not conditions:
        return
    yield "Conditions:"
    for each in conditions:
        reason = f"  {each['reason']}" if each.get("reason") else ""
        message = f": {each['message']}" if each.get("message") else ""
        since = f"  since {each['lastTransitionTime']}" if each.get("lastTransitionTime") else ""
        yield f"  {each['type']:<28}{each['status']:<8}{since}{reason}{message}"


def secret_lines(secret: Mapping[str, Any]) -> Iterator[str]:
    """Yield a secret without what it keeps."""
    yield from metadata_lines(secret)
    yield from fact_lines({"Type": secret.get("type")})
    yield "Data:"
    for name, value in (secret.get("data") or {}).items():
        yield f"  {name}: {_size(str(value))} bytes"


def config_map_lines(config_map: Mapping[str, Any]) -> Iterator[str]:
    """Yield a config map."""
    yield from metadata_lines(config_map)
    yield from fact_lines({"Immutable": config_map.get("immutable")})
    yield "Data:"
    yield from field_lines(config_map.get("data") or {}, indent=2, titled=False)
    if config_map.get("binaryData"):
        yield "Binary Data:"
        for name, value in config_map["binaryData"].items():
            yield f"  {name}: {_size(str(value))} bytes"


def field_lines(
    value: Any, *, indent: int = 0, skip: tuple[str, ...] = (), titled: bool = True
) -> Iterator[str]:
    """Yield any JSON value as indented text; empty fields are left out.

    Args:
        value: what to show.
        indent: by how many spaces.
        skip: fields of ``value`` itself that are left out.
        titled: whether names of fields begin with a capital letter.
    """
    margin = " " * indent
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in skip or inner in (None, {}, []):
                continue
            shown = name[:1].upper() + name[1:] if titled else name
            if isinstance(inner, dict | list) or "\n" in str(inner):
                yield f"{margin}{shown}:"
                yield from field_lines(inner, indent=indent + 2, titled=titled)
            else:
                yield f"{margin}{shown}: {inner}"
    elif isinstance(value, list):
        for inner in value:
            first, *rest = list(field_lines(inner, indent=indent + 2, titled=titled)) or ["{}"]
            yield f"{margin}- {first.lstrip()}"
            yield from rest
    else:
        yield from (f"{margin}{line}" for line in str(value).splitlines() or [""])


def _size(text: str) -> int:
    try:
        return len(base64.b64decode(text))
    except binascii.Error:
        return len(text)
