"""The columns that a definition asks for.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#additional-printer-columns
"""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from fedge_apiserver.resources import Resource
from fedge_apiserver.tables._age import human_age
from fedge_apiserver.tables._builtin import Columns
from fedge_objects import JsonObject

_STEP: Final = re.compile(
    r"\.(?P<field>(?:\\.|[^.\[\]\\])+)|\[(?P<index>-?\d+)\]|\[(?P<all>\*)\]"
    r"|\[['\"](?P<quoted>[^'\"]+)['\"]\]"
    r"|\[\?\(\s*@\.(?P<key>[\w.-]+)\s*==\s*['\"]?(?P<value>[^'\"\)]*?)['\"]?\s*\)\]"
)


def custom_columns(resource: Resource) -> Columns:
    """Return the columns of a custom resource."""
    names = (("Name", 0), *((c["name"], int(c.get("priority") or 0)) for c in resource.columns))

    def cells(value: JsonObject, now: datetime) -> list[Any]:
        return [
            value["metadata"]["name"],
            *(_cell(value, column, now) for column in resource.columns),
        ]

    return Columns(names, cells)


def _cell(value: JsonObject, column: JsonObject, now: datetime) -> Any:
    found = list(evaluate(value, column["jsonPath"]))
    if not found:
        return None
    kind = column.get("type")
    if kind == "date":
        return human_age(str(found[0]), now)
    if kind in ("integer", "number", "boolean") and not isinstance(found[0], str):
        return found[0]
    return ",".join(_text(item) for item in found)


def _text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case dict() | list():
            from json import dumps  # noqa: PLC0415 - rare

            return dumps(value, separators=(",", ":"))
        case _:
            return str(value)


@lru_cache(maxsize=256)
def _steps(path: str) -> tuple[re.Match[str], ...]:
    path = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    return tuple(_STEP.finditer(path))


def evaluate(value: Any, path: str) -> Iterator[Any]:
    """Yield what a JSONPath of the kind that definitions use leads to."""
    values = [value]
    for step in _steps(path):
        values = [after for before in values for after in _follow(before, step)]
    yield from (item for item in values if item is not None)


def _follow(value: Any, step: re.Match[str]) -> Iterator[Any]:
    if (field := step["field"] or step["quoted"]) is not None:
        if isinstance(value, dict):
            yield value.get(field.replace("\\.", "."))
    elif step["index"] is not None:
        if isinstance(value, list) and -len(value) <= int(step["index"]) < len(value):
            yield value[int(step["index"])]
    elif step["all"]:
        if isinstance(value, list):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()
    elif isinstance(value, list):
        for item in value:
            held = item
            for part in step["key"].split("."):
                held = held.get(part) if isinstance(held, dict) else None
            if held is not None and _text(held) == step["value"]:
                yield item
