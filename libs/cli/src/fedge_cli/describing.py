"""``fedge describe``: an object as indented text, with what happened to it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from fedge_cli.api import Api, ResourceType
from fedge_cli.errors import CommandError
from fedge_cli.layouts import config_map_lines, field_lines, secret_lines
from fedge_cli.node_layout import node_lines
from fedge_cli.origins import node_of
from fedge_cli.pod_layout import pod_lines
from fedge_cli.staleness import age, stale_nodes

_HIDDEN = {"managedFields", "selfLink"}
_REASON_WIDTH = 20


def describe(api: Api, kind: ResourceType, namespace: str, name: str) -> Iterator[str]:
    """Yield the lines that describe one object.

    Raises:
        CommandError: it is not there, or may not be read.
    """
    obj = api.request("GET", kind.path(namespace, name))
    node = node_of(api, obj, kind)
    stale = stale_nodes(api, [node]).get(node) if node else None
    match "" if kind.group else kind.plural:
        case "pods":
            yield from pod_lines(obj, stale=stale)
        case "nodes":
            pods = api.request(
                "GET", "/api/v1/pods", query={"fieldSelector": f"spec.nodeName={name}"}
            )
            yield from node_lines(obj, pods["items"], stale=stale)
        case "secrets":
            yield from secret_lines(obj)
        case "configmaps":
            yield from config_map_lines(obj)
        case _:
            note = "" if stale is None else f"{node} (stale {age(stale)}: it is not heard)"
            yield from _any(obj, kind, note)
    yield from event_lines(_events(api, obj, kind), api.now)


def _any(obj: dict[str, Any], kind: ResourceType, node: str) -> Iterator[str]:
    metadata = {k: v for k, v in obj["metadata"].items() if k not in _HIDDEN}
    yield f"Kind: {kind.kind}"
    yield f"Version: {kind.api_version}"
    if node:
        yield f"Node: {node}"
    yield from field_lines({**obj, "metadata": metadata}, skip=("apiVersion", "kind"))


def _events(api: Api, obj: dict[str, Any], kind: ResourceType) -> list[dict[str, Any]] | str:
    """Return the events about an object, or why they cannot be had."""
    metadata = obj["metadata"]
    selector = f"involvedObject.kind={kind.kind},involvedObject.name={metadata['name']}"
    where = metadata.get("namespace") or "default"
    path = f"/api/v1/namespaces/{where}/events"
    try:
        items = api.request("GET", path, query={"fieldSelector": selector})["items"]
    except CommandError as exc:
        return str(exc)
    # a former object of the name has another uid; kubelets give a node's name for its uid
    uids = {metadata.get("uid"), metadata["name"], "", None}
    return [each for each in items if each["involvedObject"].get("uid") in uids]


def event_lines(events: list[dict[str, Any]] | str, now: datetime) -> Iterator[str]:
    """Yield events, the latest last."""
    if isinstance(events, str):
        yield f"Events: unknown ({events})"
        return
    if not events:
        yield "Events: <none>"
        return
    yield "Events:"
    yield f"  {'AGE':<12}{'TYPE':<9}{'REASON':<{_REASON_WIDTH}}MESSAGE"
    for event in sorted(events, key=_last_seen):
        ago = age((now - _last_seen(event)).total_seconds())
        count = (event.get("series") or {}).get("count") or event.get("count") or 1
        times = f" (x{count})" if count > 1 else ""
        yield (
            f"  {ago + times:<12}{event.get('type', ''):<9}"
            f"{event.get('reason', ''):<{_REASON_WIDTH}}{str(event.get('message', '')).strip()}"
        )


def _last_seen(event: Mapping[str, Any]) -> datetime:
    """Return when an event was seen last; those of the newer API keep it elsewhere."""
    moment = (
        (event.get("series") or {}).get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or "1970-01-01T00:00:00Z"
    )
    return datetime.fromisoformat(moment).astimezone(UTC)
