"""JSON patch and JSON merge patch.

https://www.rfc-editor.org/rfc/rfc6902, https://www.rfc-editor.org/rfc/rfc7386
"""

import copy
from typing import Any, Final

_MOST_OPERATIONS: Final = 10_000
_ABSENT: Final = object()


class PatchError(ValueError):
    """A patch that does not apply."""


def merge(target: Any, patch: Any) -> Any:
    """Return ``target`` with a merge patch applied; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def apply_operations(target: Any, operations: Any) -> Any:
    """Return ``target`` with a JSON patch applied; ``target`` is not changed.

    Raises:
        PatchError: an operation is malformed, or its test or path fails.
    """
    if not isinstance(operations, list):
        raise PatchError("a JSON patch must be a list of operations")
    if len(operations) > _MOST_OPERATIONS:
        raise PatchError(f"the patch has more than {_MOST_OPERATIONS} operations")
    document = copy.deepcopy(target)
    for operation in operations:
        if not isinstance(operation, dict):
            raise PatchError("an operation must be an object")
        document = _apply(document, operation)
    return document


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    path = _tokens(operation.get("path"))
    match operation.get("op"):
        case "add":
            return _add(document, path, _value(operation))
        case "remove":
            return _remove(document, path)
        case "replace":
            value = _value(operation)
            if not path:
                return value
            _find(document, path)
            return _put(document, path, value)
        case "test":
            if not _equal(_find(document, path), _value(operation)):
                raise PatchError(f"testing value {operation['path']} failed")
            return document
        case "move":
            source = _tokens(operation.get("from"))
            value = _find(document, source)
            if path[: len(source)] == source and path != source:
                raise PatchError("a value cannot be moved into itself")
            return _add(_remove(document, source), path, value)
        case "copy":
            value = copy.deepcopy(_find(document, _tokens(operation.get("from"))))
            return _add(document, path, value)
        case other:
            raise PatchError(f"unexpected kind: {other}")


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise PatchError(f"operation {operation.get('op')} of {operation['path']} needs a value")
    return operation["value"]


def _tokens(pointer: Any) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise PatchError(f"{pointer!r} is no JSON pointer")
    parts = pointer.split("/")[1:]
    return [part.replace("~1", "/").replace("~0", "~") for part in parts]


def _index(items: list[Any], token: str, *, most: int) -> int:
    if not token.isdecimal() or int(token) > most:
        raise PatchError(f"index {token} is out of bounds of a list of {len(items)}")
    return int(token)


def _find(document: Any, path: list[str]) -> Any:
    for token in path:
        if isinstance(document, dict):
            document = document.get(token, _ABSENT)
        elif isinstance(document, list):
            document = document[_index(document, token, most=len(document) - 1)]
        else:
            document = _ABSENT
        if document is _ABSENT:
            raise PatchError(f"the path /{'/'.join(path)} does not exist")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _find(document, path[:-1])
    token = path[-1]
    if isinstance(parent, list):
        if token == "-":  # noqa: S105 - a JSON pointer's token
            parent.append(value)
        else:
            parent.insert(_index(parent, token, most=len(parent)), value)
    elif isinstance(parent, dict):
        parent[token] = value
    else:
        raise PatchError(f"the path /{'/'.join(path)} leads through a value")
    return document


def _put(document: Any, path: list[str], value: Any) -> Any:
    parent = _find(document, path[:-1])
    if isinstance(parent, list):
        parent[_index(parent, path[-1], most=len(parent) - 1)] = value
    else:
        parent[path[-1]] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise PatchError("the whole document cannot be removed")
    _find(document, path)
    parent = _find(document, path[:-1])
    if isinstance(parent, list):
        del parent[_index(parent, path[-1], most=len(parent) - 1)]
    else:
        del parent[path[-1]]
    return document
