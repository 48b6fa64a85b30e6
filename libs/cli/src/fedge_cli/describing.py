"""``fedge describe``: an object as indented text, with what happened to it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from fedge_cli.api import Api, ResourceType
from fedge_cli.errors import CommandError
from fedge_cli.staleness import age, stale_nodes

_HIDDEN = {"managedFields", "selfLink"}


def describe(api: Api, kind: ResourceType, namespace: str, name: str) -> Iterator[str]:
    """Yield the lines that describe one object."""
    obj = api.request("GET", kind.path(namespace, name))
    now = datetime.now(UTC)
    if kind.plural == "pods" and not kind.group:
        yield from _pod(obj, stale_nodes(api, now))
    else:
        metadata = {k: v for k, v in obj["metadata"].items() if k not in _HIDDEN}
        yield f"Kind:         {kind.kind}"
        yield from _fields({**obj, "metadata": metadata}, skip=("apiVersion", "kind"))
    yield from _events(api, obj, now)


def _pod(pod: dict[str, Any], stale: Mapping[str, float]) -> Iterator[str]:
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    node = spec.get("nodeName", "")
    known = f" (stale {age(stale[node])})" if node in stale else ""
    facts = {
        "Name": metadata["name"],
        "Namespace": metadata["namespace"],
        "Node": node or "<none>",
        "Status": f"{status.get('phase', '')}{known}",
        "Reason": status.get("reason"),
        "Message": status.get("message"),
        "Start Time": status.get("startTime"),
        "IP": status.get("podIP"),
        "QoS Class": status.get("qosClass"),
        "Restart Policy": spec.get("restartPolicy"),
        "Deletion": metadata.get("deletionTimestamp"),
    }
    yield from (f"{name + ':':<16}{value}" for name, value in facts.items() if value)
    statuses = {
        each["name"]: each
        for group in ("initContainerStatuses", "containerStatuses")
        for each in status.get(group) or ()
    }
    for title, containers in (
        ("Init Containers", spec.get("initContainers") or ()),
        ("Containers", spec["containers"]),
    ):
        if containers:
            yield f"{title}:"
        for container in containers:
            yield from _container(container, statuses.get(container["name"], {}))
    yield "Conditions:"
    for condition in status.get("conditions") or ():
        reason = f"  {condition['reason']}" if condition.get("reason") else ""
        message = f": {condition['message']}" if condition.get("message") else ""
        yield f"  {condition['type']:<28}{condition['status']}{reason}{message}"
    if spec.get("volumes"):
        yield "Volumes:"
        for volume in spec["volumes"]:
            yield f"  {volume['name']}:"
            yield from _fields({k: v for k, v in volume.items() if k != "name"}, indent=4)


def _container(container: dict[str, Any], status: dict[str, Any]) -> Iterator[str]:
    yield f"  {container['name']}:"
    facts = {
        "Image": container.get("image"),
        "Image ID": status.get("imageID"),
        "Container ID": status.get("containerID"),
        "Command": " ".join(container.get("command") or ()),
        "Args": " ".join(container.get("args") or ()),
        "State": _state(status.get("state")),
        "Last State": _state(status.get("lastState")),
        "Ready": status.get("ready"),
        "Restart Count": status.get("restartCount"),
    }
    for name, value in facts.items():
        if value not in (None, ""):
            yield f"    {name + ':':<16}{value}"
    for mount in container.get("volumeMounts") or ():
        access = "ro" if mount.get("readOnly") else "rw"
        yield f"    {'Mount:':<16}{mount['mountPath']} from {mount['name']} ({access})"


def _state(state: Mapping[str, Any] | None) -> str:
    for kind, facts in (state or {}).items():
        parts = [f"{name}={value}" for name, value in facts.items() if value not in (None, "")]
        return f"{kind.capitalize()}  {', '.join(parts)}"
    return ""


def _events(api: Api, obj: dict[str, Any], now: datetime) -> Iterator[str]:
    metadata = obj["metadata"]
    selector = f"involvedObject.uid={metadata.get('uid', '')}"
    where = metadata.get("namespace") or "default"
    try:
        events = api.request(
            "GET", f"/api/v1/namespaces/{where}/events", query={"fieldSelector": selector}
        )["items"]
    except CommandError as exc:
        yield f"Events:         unknown ({exc})"
        return
    yield f"Events:{'' if events else '         <none>'}"
    for event in sorted(events, key=lambda each: str(each.get("lastTimestamp") or "")):
        moment = event.get("lastTimestamp") or metadata["creationTimestamp"]
        ago = age((now - datetime.fromisoformat(moment)).total_seconds())
        times = f" (x{event['count']})" if event.get("count", 1) > 1 else ""
        yield (
            f"  {ago + times:<12}{event.get('type', ''):<9}{event.get('reason', ''):<18}"
            f"{event.get('message', '')}"
        )


def _fields(value: Any, *, indent: int = 0, skip: tuple[str, ...] = ()) -> Iterator[str]:
    margin = " " * indent
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in skip or inner in (None, {}, []):
                continue
            if isinstance(inner, dict | list):
                yield f"{margin}{_title(name)}:"
                yield from _fields(inner, indent=indent + 2)
            else:
                yield f"{margin}{_title(name)}: {inner}"
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict | list):
                first, *rest = list(_fields(inner, indent=indent + 2)) or [f"{margin}  {{}}"]
                yield f"{margin}- {first.lstrip()}"
                yield from rest
            else:
                yield f"{margin}- {inner}"
    else:
        yield f"{margin}{value}"


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]
