"""How old the cloud's knowledge of a node is.

A node that is cut off cannot say how it is; what the API holds is what it said last. Users are
told so wherever such a status is printed.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fedge_cli.api import Api
from fedge_cli.errors import CommandError

LEASE_PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def stale_nodes(api: Api, now: datetime) -> dict[str, float]:
    """Return the nodes that are not Ready, with the seconds since their last sign of life."""
    try:
        nodes = api.request("GET", "/api/v1/nodes")["items"]
        leases = api.request("GET", LEASE_PATH)["items"]
    except CommandError:
        return {}  # whoever may not read them sees statuses as they are
    heard = {each["metadata"]["name"]: (each.get("spec") or {}).get("renewTime") for each in leases}
    return {
        name: _seconds_since(heard.get(name), now)
        for node in nodes
        if not _is_ready(node) and (name := node["metadata"]["name"])
    }


def age(seconds: float) -> str:
    """Return a duration as kubectl prints it: 12s, 5m, 3h, 9d."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size or (unit != "m" and seconds >= size):
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def _is_ready(node: Mapping[str, Any]) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in (node.get("status") or {}).get("conditions") or ()
    )


def _seconds_since(moment: str | None, now: datetime) -> float:
    if not moment:
        return 0.0
    return (now - datetime.fromisoformat(moment).astimezone(UTC)).total_seconds()
