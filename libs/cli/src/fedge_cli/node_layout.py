"""``fedge describe node``: how it is, when it was heard, what it has, what runs there."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedge_cli.layouts import condition_lines, fact_lines, metadata_lines, pair_lines
from fedge_cli.staleness import age

_ROLE = "node-role.kubernetes.io/"
_ENDED = {"Succeeded", "Failed"}


def node_lines(
    node: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], *, stale: float | None
) -> Iterator[str]:
    """Yield a node without its events.

    Args:
        node: the object.
        pods: those bound to it.
        stale: seconds since it was heard, if that is overdue.
    """
    spec, status = node.get("spec") or {}, node.get("status") or {}
    labels = node["metadata"].get("labels") or {}
    roles = [name.removeprefix(_ROLE) for name in labels if name.startswith(_ROLE)]
    yield from fact_lines({"Status": _status(node, stale), "Roles": ", ".join(roles) or "<none>"})
    yield from metadata_lines(node)
    yield from fact_lines(
        {
            "Addresses": ", ".join(
                f"{each['address']} ({each['type']})" for each in status.get("addresses") or ()
            ),
            "Pod CIDR": spec.get("podCIDR"),
            "Unschedulable": spec.get("unschedulable"),
            "Taints": ", ".join(_taint(each) for each in spec.get("taints") or ()) or "<none>",
        }
    )
    yield from condition_lines(status.get("conditions"))
    for title, name in (("Capacity", "capacity"), ("Allocatable", "allocatable")):
        amounts = ", ".join(f"{k} {v}" for k, v in (status.get(name) or {}).items())
        yield from fact_lines({title: amounts})
    yield from pair_lines("System", status.get("nodeInfo"))
    yield from _pods(pods, stale)


def _status(node: Mapping[str, Any], stale: float | None) -> str:
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = next((each["status"] for each in conditions if each["type"] == "Ready"), "Unknown")
    shown = "Ready" if ready == "True" else "NotReady"
    return shown if stale is None else f"{shown} (stale {age(stale)}: it is not heard)"


def _taint(each: Mapping[str, Any]) -> str:
    value = f"={each['value']}" if each.get("value") else ""
    return f"{each['key']}{value}:{each['effect']}"


def _pods(pods: Sequence[Mapping[str, Any]], stale: float | None) -> Iterator[str]:
    here = [each for each in pods if (each.get("status") or {}).get("phase") not in _ENDED]
    yield f"Pods: {len(here)}"
    width = max((len(_key(each)) for each in here), default=0)
    mark = "" if stale is None else f" (stale {age(stale)})"
    for each in sorted(here, key=_key):
        requests = [
            f"{name} {value}"
            for container in each["spec"].get("containers") or ()
            for name, value in ((container.get("resources") or {}).get("requests") or {}).items()
        ]
        phase = f"{(each.get('status') or {}).get('phase', '')}{mark}"
        yield f"  {_key(each):<{width}}  {phase:<10}  {', '.join(requests)}".rstrip()


def _key(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
