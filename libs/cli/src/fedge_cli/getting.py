"""``fedge get``: tables as the server makes them, with the truth about stale nodes added."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from fedge_cli.api import TABLE, Api, ResourceType
from fedge_cli.errors import UsageError
from fedge_cli.staleness import age, stale_nodes

FORMATS = ("wide", "name", "json", "yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked for.

    Attributes:
        kinds: as the user wrote them, separated by commas.
        names: none for all.
        namespace: None for all.
        selector: by label.
        field_selector: by field.
        output: empty for a table, or one of ``FORMATS``.
    """

    kinds: str
    names: tuple[str, ...]
    namespace: str | None
    selector: str = ""
    field_selector: str = ""
    output: str = ""

    def targets(self, api: Api) -> list[tuple[ResourceType, tuple[str, ...]]]:
        """Return each kind with the names asked for.

        Raises:
            UsageError: names are mixed up.
        """
        if "/" in self.kinds:
            kind, _, name = self.kinds.partition("/")
            if self.names or "," in kind:
                raise UsageError("give KIND/NAME alone, or KIND and names apart")
            return [(api.find_type(kind), (name,))]
        kinds = [api.find_type(each) for each in self.kinds.split(",")]
        if len(kinds) > 1 and self.names:
            raise UsageError("names go with one kind only")
        return [(kind, self.names) for kind in kinds]

    @property
    def parameters(self) -> dict[str, str]:
        """The query of the URL."""
        parameters = {"labelSelector": self.selector, "fieldSelector": self.field_selector}
        return {name: value for name, value in parameters.items() if value}


@dataclass(frozen=True, slots=True)
class Table:
    """What is printed."""

    columns: list[str]
    rows: list[list[str]]


def get_objects(api: Api, query: Query) -> dict[str, Any]:
    """Return the objects: one as itself, several as a List."""
    items: list[dict[str, Any]] = []
    single = False
    for kind, names in query.targets(api):
        where = query.namespace or ""
        if names:
            items += [api.request("GET", kind.path(where, name)) for name in names]
            single = len(names) == 1
            continue
        listed = api.request("GET", kind.path(where), query=query.parameters)["items"]
        items += [{"apiVersion": kind.api_version, "kind": kind.kind, **each} for each in listed]
    if single and len(items) == 1:
        return items[0]
    return {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}


def get_table(api: Api, kind: ResourceType, names: tuple[str, ...], query: Query) -> Table:
    """Return the server's table of one kind."""
    where = query.namespace or ""
    if names:
        tables = [api.request("GET", kind.path(where, name), accept=TABLE) for name in names]
    else:
        tables = [api.request("GET", kind.path(where), query=query.parameters, accept=TABLE)]
    return to_table(
        tables,
        kind,
        wide=query.output == "wide",
        all_namespaces=query.namespace is None,
        stale=stale_nodes(api, datetime.now(UTC)) if kind.plural in {"pods", "nodes"} else {},
    )


def to_table(
    tables: list[dict[str, Any]],
    kind: ResourceType,
    *,
    wide: bool,
    all_namespaces: bool,
    stale: dict[str, float],
) -> Table:
    """Return what is printed of tables of one kind."""
    definitions = tables[0].get("columnDefinitions") or []
    shown = [index for index, each in enumerate(definitions) if wide or not each.get("priority")]
    columns = [definitions[index]["name"].upper() for index in shown]
    namespaced = all_namespaces and kind.is_namespaced
    rows = []
    for table in tables:
        for row in table.get("rows") or ():
            cells = ["" if cell is None else str(cell) for cell in row["cells"]]
            _add_staleness(cells, definitions, row, kind, stale)
            picked = [cells[index] or "<none>" for index in shown]
            if namespaced:
                picked.insert(0, row["object"]["metadata"].get("namespace", ""))
            rows.append(picked)
    if namespaced:
        columns.insert(0, "NAMESPACE")
    return Table(columns, rows)


def _add_staleness(
    cells: list[str],
    definitions: list[dict[str, Any]],
    row: dict[str, Any],
    kind: ResourceType,
    stale: dict[str, float],
) -> None:
    names = [each["name"].lower() for each in definitions]
    node = row["object"]["metadata"]["name"]
    if kind.plural == "pods":
        node = cells[names.index("node")] if "node" in names else ""
    if node in stale and "status" in names:
        at = names.index("status")
        cells[at] = f"{cells[at]} (stale {age(stale[node])})"


def watch(api: Api, query: Query) -> Iterator[Table]:
    """Yield a table per change, without an end."""
    [(kind, names)] = query.targets(api)
    parameters = {**query.parameters, "watch": "true"}
    if names:
        parameters["fieldSelector"] = f"metadata.name={names[0]}"
    columns: list[dict[str, Any]] = []
    for line in api.stream(kind.path(query.namespace or ""), query=parameters, accept=TABLE):
        event = json.loads(line)
        table = event["object"]
        columns = table.get("columnDefinitions") or columns
        table["columnDefinitions"] = columns
        yield to_table(
            [table],
            kind,
            wide=query.output == "wide",
            all_namespaces=query.namespace is None,
            stale={},
        )


def render(objects: dict[str, Any], output: str) -> str:
    """Return objects as JSON or YAML, or their names."""
    if output == "json":
        return json.dumps(objects, indent=2, ensure_ascii=False)
    if output == "yaml":
        return str(yaml.safe_dump(objects, sort_keys=False, allow_unicode=True)).rstrip("\n")
    items = objects["items"] if objects.get("kind") == "List" else [objects]
    return "\n".join(f"{each['kind'].lower()}/{each['metadata']['name']}" for each in items)
