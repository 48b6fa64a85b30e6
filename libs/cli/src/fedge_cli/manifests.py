"""Manifests: files, folders or standard input, YAML or JSON, several documents each.

One document that cannot be read keeps no other from being used; every error says in which file and
line it is. YAML is read as Kubernetes' tools read it: a date or ``12:30`` is text, a repeated key
is an error.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fedge_cli.errors import UsageError

if TYPE_CHECKING:
    _BaseLoader = yaml.SafeLoader
else:
    _BaseLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_REPLACED = {f"tag:yaml.org,2002:{name}" for name in ("timestamp", "int", "float")}
SUFFIXES = {".yaml", ".yml", ".json"}
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One object, and where it stands."""

    place: str
    object: dict[str, Any]


def read(path: str) -> Iterator[Manifest | UsageError]:
    """Yield the objects at ``path``, and an error in place of each that cannot be read.

    Raises:
        UsageError: there is nothing at ``path``.
    """
    if path == "-":
        yield from _documents("standard input", sys.stdin.read())
        return
    for file in _files(path):
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as exc:
            yield UsageError(f"{file}: {exc}")
            continue
        yield from _documents(str(file), text)


def _files(path: str) -> list[Path]:
    root = Path(path)
    if not root.exists():
        raise UsageError(f"the path {path!r} does not exist")
    if not root.is_dir():
        return [root]
    files = sorted(
        each
        for each in root.iterdir()
        if each.suffix in SUFFIXES and each.stem.lower() != "kustomization"
    )
    if not files:
        raise UsageError(f"the folder {path!r} holds no .yaml, .yml or .json file")
    return files


def _documents(file: str, text: str) -> Iterator[Manifest | UsageError]:
    if text.lstrip().startswith("{") and _SEPARATOR.search(text) is None:
        yield from _json_documents(file, text)
        return
    starts = [0, *(match.end() for match in _SEPARATOR.finditer(text))]
    ends = [*(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    number = 0
    for start, end in zip(starts, ends, strict=True):
        document = text[start:end]
        content = _first_content(document)
        if content is None:
            continue
        number += 1
        line = text.count("\n", 0, start)
        first = line + 1 + document.count("\n", 0, content)
        place = f"{file}, document {number} (line {first})"
        try:
            parsed = yaml.load(document, Loader=_Loader)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as exc:
            yield UsageError(f"{file}, document {number}: {_yaml_error(exc, line)}")
            continue
        if parsed is not None:
            yield from _objects(place, parsed)


def _first_content(document: str) -> int | None:
    """Return where the first line that is neither empty nor a comment begins."""
    match = re.search(r"^[ \t]*[^\s#]", document, re.MULTILINE)
    return None if match is None else match.start()


def _yaml_error(exc: yaml.YAMLError, line: int) -> str:
    mark = getattr(exc, "problem_mark", None)
    problem = getattr(exc, "problem", None) or str(exc)
    context = getattr(exc, "context", None)
    why = f"{context}: {problem}" if context else problem
    if mark is None:
        return f"not YAML: {why}"
    return f"line {line + mark.line + 1}, column {mark.column + 1}: not YAML: {why}"


def _json_documents(file: str, text: str) -> Iterator[Manifest | UsageError]:
    decoder = json.JSONDecoder()
    at, number = 0, 0
    while (match := re.compile(r"\S").search(text, at)) is not None:
        number += 1
        line = text.count("\n", 0, match.start()) + 1
        try:
            parsed, at = decoder.raw_decode(text, match.start())
        except ValueError as exc:
            where = f"line {getattr(exc, 'lineno', line)}, column {getattr(exc, 'colno', 1)}"
            yield UsageError(
                f"{file}, document {number}: {where}: not JSON: {getattr(exc, 'msg', exc)}"
            )
            return
        yield from _objects(f"{file}, document {number} (line {line})", parsed)


def _objects(place: str, document: Any) -> Iterator[Manifest | UsageError]:
    if not isinstance(document, dict):
        yield UsageError(f"{place}: an object is expected, found {type(document).__name__}")
        return
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        for index, each in enumerate(document["items"]):
            yield from _objects(f"{place}, items[{index}]", each)
        return
    metadata = document.get("metadata")
    needed = {
        "apiVersion": document.get("apiVersion"),
        "kind": document.get("kind"),
        "metadata.name": metadata.get("name") if isinstance(metadata, dict) else None,
    }
    for field, value in needed.items():
        if not value or not isinstance(value, str):
            yield UsageError(f"{place}: {field} is {'not a text' if value else 'missing'}")
            return
    try:
        json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as exc:
        yield UsageError(f"{place}: a value that JSON does not know: {exc}")
        return
    yield Manifest(place=place, object=document)


class _Loader(_BaseLoader):
    """YAML as the Kubernetes tools read it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; a key given twice is an error, not a surprise."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is there twice", key.start_mark
                )
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep=deep))


def _resolve(name: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(pattern), list(first))


# Kubernetes' YAML has no times of day (12:30 is a port mapping) and no dates.
_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] not in _REPLACED]
    for first, resolvers in _BaseLoader.yaml_implicit_resolvers.items()
}
_resolve("int", r"^[-+]?(0b[01_]+|0o?[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$", "-+0123456789")
_resolve(
    "float",
    r"^[-+]?((\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))$|^\.(nan|NaN|NAN)$",
    "-+0123456789.",
)
