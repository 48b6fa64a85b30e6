"""``fedge get``: tables as the server makes them, with the truth about stale nodes added.

https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedge_cli.api import TABLE, Api, ResourceType, is_expired
from fedge_cli.errors import CommandError, UsageError
from fedge_cli.origins import marked_column, nodes_of_rows
from fedge_cli.staleness import age, stale_nodes

WHOLE = ("json", "yaml", "name")
FORMATS = ("wide", *WHOLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked for.

    Attributes:
        kinds: as the user wrote them, separated by commas, or KIND/NAME.
        names: none for all; or more of KIND/NAME.
        namespace: None for all.
        selector: by label.
        field_selector: by field.
        output: empty for a table, or one of ``FORMATS``.
        has_managed_fields: whether whole objects tell which manager set which field.
    """

    kinds: str
    names: tuple[str, ...]
    namespace: str | None
    selector: str = ""
    field_selector: str = ""
    output: str = ""
    has_managed_fields: bool = False

    def targets(self, api: Api) -> list[tuple[ResourceType, tuple[str, ...]]]:
        """Return each kind with the names asked for.

        Raises:
            UsageError: names are mixed up.
            MissingError: there is no such kind.
        """
        targets = self._targets(api)
        has_names = any(names for _, names in targets)
        if has_names and (self.selector or self.field_selector):
            raise UsageError("a name and a selector cannot be given together")
        if has_names and self.namespace is None and any(k.is_namespaced for k, _ in targets):
            raise UsageError("a name needs its namespace: leave out -A, and say -n NAMESPACE")
        return targets

    def _targets(self, api: Api) -> list[tuple[ResourceType, tuple[str, ...]]]:
        words = (self.kinds, *self.names)
        if any("/" in word for word in words):
            return pairs(api, words)
        kinds = [api.find_type(each) for each in self.kinds.split(",") if each]
        if len(kinds) > 1 and self.names:
            raise UsageError("names go with one kind only; use KIND/NAME KIND/NAME")
        return [(kind, self.names) for kind in kinds]

    @property
    def parameters(self) -> dict[str, str]:
        """The query of the URL."""
        parameters = {"labelSelector": self.selector, "fieldSelector": self.field_selector}
        return {name: value for name, value in parameters.items() if value}


def pairs(api: Api, words: Iterable[str]) -> list[tuple[ResourceType, tuple[str, ...]]]:
    """Return what several of KIND/NAME mean.

    Raises:
        UsageError: one of them is something else.
    """
    found: dict[ResourceType, tuple[str, ...]] = {}
    for word in words:
        kind, slash, name = word.partition("/")
        if not (kind and slash and name) or "," in kind or "/" in name:
            raise UsageError(f"{word!r} is not of the form KIND/NAME, as the others are")
        known = api.find_type(kind)
        found[known] = (*found.get(known, ()), name)
    return list(found.items())


@dataclass(frozen=True, slots=True)
class Table:
    """What is printed."""

    columns: list[str]
    rows: list[list[str]]


def get_objects(api: Api, query: Query) -> tuple[dict[str, Any], list[CommandError]]:
    """Return the objects, one as itself and several as a List, and what could not be had."""
    items: list[dict[str, Any]] = []
    errors: list[CommandError] = []
    targets = query.targets(api)
    for kind, names in targets:
        where = query.namespace or ""
        for name in names:
            try:
                items.append(api.request("GET", kind.path(where, name)))
            except CommandError as exc:
                errors.append(exc)
        if not names:
            items += _listed(api, kind, query)
    items = [_shown(each, query) for each in items]
    if len(items) == 1 and sum(len(names) for _, names in targets) == 1:
        return items[0], errors
    return {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}, errors


def _shown(obj: dict[str, Any], query: Query) -> dict[str, Any]:
    """Return an object as it is to be printed."""
    if query.has_managed_fields:
        return obj
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}


def _listed(api: Api, kind: ResourceType, query: Query) -> Iterator[dict[str, Any]]:
    for each in api.request("GET", kind.path(query.namespace or ""), query=query.parameters)[
        "items"
    ]:
        yield {"apiVersion": kind.api_version, "kind": kind.kind, **each}


def get_table(api: Api, kind: ResourceType, names: Sequence[str], query: Query) -> Table:
    """Return the server's table of one kind.

    Raises:
        CommandError: one of the names is not there, or the server refuses.
    """
    table, errors = get_rows(api, kind, names, query)
    if errors:
        raise errors[0]
    return table


def get_rows(
    api: Api, kind: ResourceType, names: Sequence[str], query: Query
) -> tuple[Table, list[CommandError]]:
    """Return the server's table of one kind, and what could not be had."""
    where = query.namespace or ""
    if not names:
        path = kind.path(where)
        tables = [api.request("GET", path, query=query.parameters, accept=TABLE)]
        return to_table(api, tables, kind, query), []
    tables, errors = [], []
    for name in names:
        try:
            tables.append(api.request("GET", kind.path(where, name), accept=TABLE))
        except CommandError as exc:
            errors.append(exc)
    return to_table(api, tables, kind, query), errors


def to_table(api: Api, tables: Sequence[dict[str, Any]], kind: ResourceType, query: Query) -> Table:
    """Return what is printed of tables of one kind."""
    tables = [_as_table(each, kind) for each in tables]
    definitions: list[dict[str, Any]] = next((each["columnDefinitions"] for each in tables), [])
    is_wide = query.output == "wide"
    shown = [index for index, each in enumerate(definitions) if is_wide or not each.get("priority")]
    columns = [definitions[index]["name"].upper() for index in shown]
    is_namespace_shown = query.namespace is None and kind.is_namespaced
    found = [row for each in tables for row in each.get("rows") or ()]
    nodes = nodes_of_rows(api, found, definitions, kind)
    stale = stale_nodes(api, {node for node in nodes if node})
    at = marked_column(definitions, kind)
    rows = []
    for row, node in zip(found, nodes, strict=True):
        cells = ["" if cell is None else str(cell) for cell in row["cells"]]
        if node in stale:
            cells[at] = f"{cells[at] or '<none>'} (stale {age(stale[node])})"
        picked = [cells[index] or "<none>" for index in shown]
        if is_namespace_shown:
            picked.insert(0, row["object"]["metadata"].get("namespace", ""))
        rows.append(picked)
    if is_namespace_shown:
        columns.insert(0, "NAMESPACE")
    return Table(columns, rows)


def _as_table(answer: dict[str, Any], kind: ResourceType) -> dict[str, Any]:
    """Return the answer as a table, also of a server that makes none."""
    if answer.get("kind") == "Table":
        return answer
    objects = answer.get("items", [answer])
    return {
        "kind": "Table",
        "columnDefinitions": [{"name": "Name"}, {"name": "Created At"}],
        "rows": [
            {
                "cells": [each["metadata"]["name"], each["metadata"].get("creationTimestamp")],
                "object": {"kind": kind.kind, "metadata": each["metadata"]},
            }
            for each in objects
        ],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Something that a watch shows: rows, or one whole object."""

    table: Table
    object: dict[str, Any]


def watch(api: Api, query: Query) -> Iterator[Seen]:
    """Yield what there is, then every change, without an end.

    Raises:
        UsageError: several kinds or names are asked for.
        CommandError: the server refuses, or goes away.
    """
    targets = query.targets(api)
    if len(targets) != 1 or len(targets[0][1]) > 1:
        raise UsageError("one kind, or one object, can be watched at a time")
    [(kind, names)] = targets
    if names:
        query = replace(query, names=(), field_selector=f"metadata.name={names[0]}")
    if names:
        api.request("GET", kind.path(query.namespace or "", names[0]))
    while True:
        try:
            yield from _watch_once(api, kind, query)
        except CommandError as exc:
            if not is_expired(exc):
                raise


def _watch_once(api: Api, kind: ResourceType, query: Query) -> Iterator[Seen]:
    """List, then watch until what was seen last is too old to go on from."""
    path, is_whole = kind.path(query.namespace or ""), query.output in WHOLE
    accept = "application/json" if is_whole else TABLE
    listed = api.request("GET", path, query=query.parameters, accept=accept)
    version = str(listed["metadata"]["resourceVersion"])
    definitions = listed.get("columnDefinitions")
    if is_whole:
        for each in listed["items"]:
            obj = {"apiVersion": kind.api_version, "kind": kind.kind, **each}
            yield Seen(table=Table([], []), object=_shown(obj, query))
    else:
        yield Seen(table=to_table(api, [listed], kind, query), object={})
    while True:
        for event in api.watch(
            path, resource_version=version, query=query.parameters, accept=accept
        ):
            found = event["object"]
            version = _version_of(found) or version
            if event["type"] == "BOOKMARK":
                continue
            if is_whole:
                yield Seen(table=Table([], []), object=_shown(found, query))
                continue
            if found.get("kind") == "Table":
                # the columns come with the first event only
                definitions = found.get("columnDefinitions") or definitions
                found = {**found, "columnDefinitions": definitions}
            yield Seen(table=to_table(api, [found], kind, query), object={})


def _version_of(found: Mapping[str, Any]) -> str:
    rows = found.get("rows") or ()
    metadata = rows[-1]["object"]["metadata"] if rows else found.get("metadata") or {}
    return str(metadata.get("resourceVersion") or "")


def name_of(obj: Mapping[str, Any]) -> str:
    """Return ``pod/hello``, or ``device.devices.kubeedge.io/thermometer``."""
    group = str(obj["apiVersion"]).rpartition("/")[0]
    kind = f"{obj['kind']}.{group}" if group else str(obj["kind"])
    return f"{kind.lower()}/{obj['metadata']['name']}"
