"""On which node's word a status rests: a pod's, a node's, a device's."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedge_cli.api import Api, ResourceType
from fedge_cli.errors import CommandError

DEVICES = "devices.kubeedge.io"
_ASKED_ONE_BY_ONE = 4
_COLUMNS = {
    ("", "pods"): "status",
    ("", "nodes"): "status",
    (DEVICES, "devices"): "node",
    (DEVICES, "devicestatuses"): "state",
}
"""Where a table says what can grow old."""


def marked_column(definitions: Sequence[Mapping[str, Any]], kind: ResourceType) -> int:
    """Return the column that says what a node said; -1 if none does."""
    return _column(definitions, _COLUMNS.get((kind.group, kind.plural), ""))


def nodes_of_rows(
    api: Api,
    rows: Sequence[Mapping[str, Any]],
    definitions: Sequence[Mapping[str, Any]],
    kind: ResourceType,
) -> list[str]:
    """Return for each row of a table the node on whose word it rests; empty if on none's."""
    if marked_column(definitions, kind) < 0:
        return [""] * len(rows)
    match kind.plural:
        case "nodes":
            return [str(row["object"]["metadata"]["name"]) for row in rows]
        case "devicestatuses":
            return _nodes_of_devices(api, kind, [row["object"]["metadata"] for row in rows])
        case _:
            at = _column(definitions, "node")
            return [
                "" if at < 0 or _is_over(row, definitions, kind) else _node_in(row["cells"][at])
                for row in rows
            ]


def node_of(api: Api, obj: Mapping[str, Any], kind: ResourceType) -> str:
    """Return the node on whose word an object's status rests; empty if on none's."""
    match kind.group, kind.plural:
        case ("", "nodes"):
            return str(obj["metadata"]["name"])
        case ("", "pods"):
            # what is known of a pod that has ended cannot grow old
            phase = (obj.get("status") or {}).get("phase")
            return "" if phase in {"Succeeded", "Failed"} else _attached(obj)
        case (group, "devices") if group == DEVICES:
            return _attached(obj)
        case (group, "devicestatuses") if group == DEVICES:
            return _nodes_of_devices(api, kind, [obj["metadata"]])[0]
        case _:
            return ""


def _nodes_of_devices(
    api: Api, kind: ResourceType, statuses: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the nodes of devices by the metadata of their statuses, which have their names."""
    root = f"/apis/{kind.api_version}"
    paths = [f"{root}/namespaces/{each['namespace']}/devices/{each['name']}" for each in statuses]
    try:
        if len(paths) > _ASKED_ONE_BY_ONE:
            devices = api.request("GET", f"{root}/devices")["items"]
            return _by_name(devices, statuses)
    except CommandError:
        return [""] * len(statuses)  # whoever may not read them sees statuses as they are
    return [_node_at(api, path) for path in paths]


def _by_name(
    devices: Iterable[Mapping[str, Any]], statuses: Iterable[Mapping[str, Any]]
) -> list[str]:
    nodes = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): _attached(each)
        for each in devices
    }
    return [nodes.get((each["namespace"], each["name"]), "") for each in statuses]


def _node_at(api: Api, path: str) -> str:
    try:
        return _attached(api.request("GET", path))
    except CommandError:
        return ""


def _attached(obj: Mapping[str, Any]) -> str:
    return str((obj.get("spec") or {}).get("nodeName") or "")


def _node_in(cell: object) -> str:
    node = str(cell or "")
    return "" if node == "<none>" else node


def _is_over(
    row: Mapping[str, Any], definitions: Sequence[Mapping[str, Any]], kind: ResourceType
) -> bool:
    """Whether a pod has ended: what is known of it cannot grow old."""
    if kind.plural != "pods":
        return False
    return str(row["cells"][_column(definitions, "status")]) in {"Completed", "Succeeded"}


def _column(definitions: Sequence[Mapping[str, Any]], name: str) -> int:
    for index, each in enumerate(definitions):
        if each["name"].lower() == name:
            return index
    return -1
