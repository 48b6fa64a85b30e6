"""Manifests: files, folders or standard input, YAML or JSON, several documents each."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fedge_cli.errors import UsageError

SUFFIXES = {".yaml", ".yml", ".json"}


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
    root = Path(path)
    if not root.exists():
        raise UsageError(f"the path {path!r} does not exist")
    files = [root]
    if root.is_dir():
        files = sorted(
            each
            for each in root.iterdir()
            if each.suffix in SUFFIXES and each.stem.lower() != "kustomization"
        )
        if not files:
            raise UsageError(f"the folder {path!r} holds no .yaml, .yml or .json file")
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            yield UsageError(f"{file}: {exc}")
            continue
        yield from _documents(str(file), text)


def _documents(place: str, text: str) -> Iterator[Manifest | UsageError]:
    number = 0
    try:
        for number, document in enumerate(yaml.safe_load_all(text), start=1):
            if document is None:
                continue
            yield from _objects(f"{place}, document {number}", document)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown line"
        problem = getattr(exc, "problem", None) or str(exc)
        yield UsageError(f"{place}: {line}: not YAML: {problem}")


def _objects(place: str, document: Any) -> Iterator[Manifest | UsageError]:
    if not isinstance(document, dict):
        yield UsageError(f"{place}: an object is expected, found {type(document).__name__}")
        return
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        for each in document["items"]:
            yield from _objects(place, each)
        return
    for name in ("apiVersion", "kind"):
        if not document.get(name):
            yield UsageError(f"{place}: {name} is missing")
            return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        yield UsageError(f"{place}: metadata.name is missing")
        return
    yield Manifest(place=place, object=document)
