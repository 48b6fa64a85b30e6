"""How old the cloud's knowledge of a node is.

A node that is cut off cannot say how it is; what the API holds is what it said last. Users are
told so wherever such a status is printed. A node that is heard is believed, also when it says that
it is not ready.

https://kubernetes.io/docs/concepts/architecture/nodes/#node-heartbeats
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from fedge_cli.api import Api
from fedge_cli.errors import CommandError, MissingError

NODE_PATH = "/api/v1/nodes"
LEASE_PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
DEFAULT_LEASE_SECONDS = 40
_ASKED_ONE_BY_ONE = 4


def stale_nodes(api: Api, names: Collection[str]) -> dict[str, float]:
    """Return which of these nodes are not heard, with the seconds since their last sign of life."""
    try:
        nodes, leases = _read(api, NODE_PATH, names), _read(api, LEASE_PATH, names)
    except CommandError:
        return {}  # whoever may not read them sees statuses as they are
    now = api.now
    found = {}
    for name in names:
        seconds = staleness(nodes.get(name), leases.get(name), now)
        if seconds is not None:
            found[name] = seconds
    return found


def staleness(
    node: Mapping[str, Any] | None, lease: Mapping[str, Any] | None, now: datetime
) -> float | None:
    """Return the seconds since a node's last sign of life if it is overdue, else None."""
    if node is None:
        return None
    ready = _ready(node)
    spec = (lease or {}).get("spec") or {}
    heard = _moment(spec.get("renewTime")) or _moment(ready.get("lastHeartbeatTime"))
    silent = timedelta(0) if heard is None else now - heard
    lasts = timedelta(seconds=spec.get("leaseDurationSeconds") or DEFAULT_LEASE_SECONDS)
    is_overdue = lease is not None and heard is not None and silent > lasts
    if is_overdue or ready.get("status") == "Unknown":
        return max(0.0, silent.total_seconds())
    return None


def age(seconds: float) -> str:
    """Return a duration as kubectl prints it: 12s, 5m, 3h, 9d."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size or (unit != "m" and seconds >= size):
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def _read(api: Api, path: str, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return objects by name: few one by one, many as a list."""
    if len(names) > _ASKED_ONE_BY_ONE:
        return {each["metadata"]["name"]: each for each in api.request("GET", path)["items"]}
    found = {}
    for name in names:
        try:
            found[name] = api.request("GET", f"{path}/{name}")
        except MissingError:
            continue
    return found


def _ready(node: Mapping[str, Any]) -> Mapping[str, Any]:
    for each in (node.get("status") or {}).get("conditions") or ():
        if each["type"] == "Ready":
            return dict(each)
    return {}


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    return datetime.fromisoformat(text).astimezone(UTC)
