"""Tables of any resource."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from fedge_apiserver.resources import Resource
from fedge_apiserver.tables._builtin import BUILTIN_COLUMNS, OTHER_COLUMNS, Columns
from fedge_apiserver.tables._custom import custom_columns
from fedge_objects import JsonObject


def _columns_of(resource: Resource) -> Columns:
    if resource.is_custom:
        return custom_columns(resource)
    return BUILTIN_COLUMNS.get(resource.storage, OTHER_COLUMNS)


def make_table(
    resource: Resource,
    values: Iterable[JsonObject],
    metadata: JsonObject,
    now: datetime,
    *,
    include: str = "Metadata",
    with_columns: bool = True,
) -> JsonObject:
    """Return a ``meta.k8s.io/v1`` Table.

    Args:
        resource: what the objects are.
        values: the objects.
        metadata: the list's metadata.
        now: for ages.
        include: what of each object a row carries: ``Metadata``, ``Object`` or ``None``.
        with_columns: False in a watch, after its first event.
    """
    columns = _columns_of(resource)
    rows: list[JsonObject] = []
    for value in values:
        row: JsonObject = {"cells": columns.cells(value, now)}
        if include == "Object":
            row["object"] = value
        elif include != "None":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": value["metadata"],
            }
        rows.append(row)
    definitions: list[dict[str, Any]] = [
        {
            "name": name,
            "type": "string",
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": priority,
        }
        for name, priority in columns.names
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions if with_columns else [],
        "rows": rows,
    }
