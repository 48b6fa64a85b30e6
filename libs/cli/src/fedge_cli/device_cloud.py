"""Devices by way of the API server: looked at, set, followed, asked for their history."""

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fedge_cli.api import Api, ResourceType
from fedge_cli.applying import FIELD_MANAGER, MERGE_PATCH
from fedge_cli.device_views import (
    DeviceView,
    PropertyView,
    Seen,
    from_milliseconds,
    lacking,
    news,
    shown,
)
from fedge_cli.device_wishes import Wish, check, with_wishes
from fedge_cli.errors import AwayError, CommandError, MissingError
from fedge_cli.getting import Query
from fedge_cli.getting import watch as watch_objects
from fedge_cli.staleness import age, stale_nodes
from fedge_devices import (
    DEVICE_MODELS,
    DEVICE_STATUSES,
    DEVICES,
    Model,
    as_text,
    read_declared,
    read_model,
)

EXTENSION = "devices.fedge.io"
"""Under this name ``DeviceStatus.status.extensions`` has what KubeEdge's kind has no field for."""
ATTEMPTS = 20
LOOK_SECONDS = 0.5
_CONFLICT, _NOT_FOUND = 409, 404
_NO_PATH = ("could not find the requested resource", "page not found")
"""What servers say that do not know the path, rather than the device."""


def view(api: Api, namespace: str, name: str) -> DeviceView:
    """Return a device with its model and what its node said of it.

    Raises:
        MissingError: there is no such device.
    """
    device = api.request("GET", api.find_type(DEVICES).path(namespace, name))
    status = _found(api, api.find_type(DEVICE_STATUSES), namespace, name)
    return read_view(device, status, _model(api, device))


def stale(api: Api, view: DeviceView) -> float | None:
    """Return the seconds since a device's node was heard, if that is overdue."""
    return stale_nodes(api, [view.node]).get(view.node) if view.node else None


def read_view(
    device: Mapping[str, Any] | None, status: Mapping[str, Any] | None, model: Model | None = None
) -> DeviceView:
    """Return a device as its objects say; one of the two may not be there."""
    device, status = device or {}, status or {}
    metadata = _dict(device.get("metadata") or status.get("metadata"))
    spec, said = _dict(device.get("spec")), _dict(status.get("status"))
    summary = _dict(device.get("status"))
    declared = read_declared(dict(device))
    twins = {str(each.get("propertyName")): each for each in _list(said.get("twins"))}
    extension = _dict(_dict(said.get("extensions")).get(EXTENSION))
    more = _dict(extension.get("properties"))
    properties = {}
    for property_name in dict.fromkeys((*declared, *twins)):
        known = declared.get(property_name)
        wish = known.wish if known else None
        properties[property_name] = _property(
            property_name,
            None if wish is None else as_text(wish["value"]),
            twins.get(property_name, {}),
            _dict(more.get(property_name)),
        )
    return DeviceView(
        namespace=str(metadata.get("namespace") or "default"),
        name=str(metadata.get("name")),
        node=str(spec.get("nodeName") or ""),
        model_name=str(_dict(spec.get("deviceModelRef")).get("name") or ""),
        model=model,
        state=str(said.get("state") or ""),
        last_online=str(said.get("lastOnlineTime") or ""),
        properties=properties,
        conditions=_list(summary.get("conditions")),
    )


def set_desired(api: Api, namespace: str, name: str, wishes: Sequence[Wish]) -> bool:
    """Write what a device should be into its manifest; return whether that changed it.

    What others write meanwhile is not lost: the change is made again on top of it.

    Raises:
        MissingError: there is no such device.
        CommandError: the device cannot be that, or others write without a pause.
    """
    path = api.find_type(DEVICES).path(namespace, name)
    for _ in range(ATTEMPTS):
        device = api.request("GET", path)
        before = _list(_dict(device.get("spec")).get("properties"))
        check(wishes, _needed_model(api, device), before)
        after = with_wishes(before, wishes)
        if after == before:
            return False
        patch = {
            "metadata": {"resourceVersion": device["metadata"]["resourceVersion"]},
            "spec": {"properties": after},
        }
        try:
            api.request(
                "PATCH",
                path,
                query={"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"},
                body=patch,
                content_type=MERGE_PATCH,
            )
        except CommandError as exc:
            if exc.status != _CONFLICT:
                raise
        else:
            return True
    raise CommandError(
        f"device {name!r} was changed by others {ATTEMPTS} times running: it is not set, try again"
    )


def wait(api: Api, namespace: str, name: str, wishes: Sequence[Wish], seconds: float) -> None:
    """Wait until a device reports what was set.

    Raises:
        AwayError: it does not, for its node is not heard.
        CommandError: it does not in time.
    """
    until = time.monotonic() + seconds
    while True:
        found = view(api, namespace, name)
        missing = lacking(found, wishes, at_edge=False)
        if not missing:
            return
        if time.monotonic() >= until:
            break
        time.sleep(min(LOOK_SECONDS, max(0.0, until - time.monotonic())))
    text = f"set, but after {seconds:g} s: {'; '.join(missing)}"
    if not found.node:
        raise CommandError(f"{text}; the device names no node (spec.nodeName)")
    silent = stale(api, found)
    if silent is not None:
        raise AwayError(f"{text}; node {found.node!r} is not heard since {age(silent)}")
    state = f"; the device's state is {found.state or 'unknown'}"
    raise CommandError(text + state)


def follow(api: Api, namespace: str | None, name: str) -> Iterator[Seen]:
    """Yield what there is of devices, then every change, without an end.

    Args:
        api: the server.
        namespace: None for all.
        name: of one device; empty for all.

    Raises:
        MissingError: the one device is not there.
        CommandError: the server refuses, or goes away.
    """
    if name:
        api.request("GET", api.find_type(DEVICES).path(namespace or "", name))
    selector = f"metadata.name={name}" if name else ""
    coming: queue.SimpleQueue[tuple[str, dict[str, Any]] | CommandError] = queue.SimpleQueue()
    objects: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for kind in (DEVICES, DEVICE_STATUSES):
        query = {"fieldSelector": selector} if selector else {}
        listed = api.request("GET", api.find_type(kind).path(namespace or ""), query=query)
        objects[kind] = {_key(each): each for each in listed["items"]}
    for kind in (DEVICES, DEVICE_STATUSES):
        asked = Query(
            kinds=kind, names=(), namespace=namespace, field_selector=selector, output="json"
        )
        arguments = (api, asked, kind, coming)
        threading.Thread(target=_feed, args=arguments, daemon=True, name=f"watch {kind}").start()
    known: dict[tuple[str, str], DeviceView] = {}
    for key in sorted(objects[DEVICES]):
        known[key] = read_view(objects[DEVICES][key], objects[DEVICE_STATUSES].get(key))
        yield from news(None, known[key], datetime.now(UTC))
    while True:
        change = coming.get()
        if isinstance(change, CommandError):
            raise change
        kind, obj = change
        key = _key(obj)
        objects[kind][key] = obj
        if key not in objects[DEVICES]:
            continue  # what a status says is told with its device
        after = read_view(objects[DEVICES][key], objects[DEVICE_STATUSES].get(key))
        yield from news(known.get(key), after, datetime.now(UTC))
        known[key] = after


def history(
    api: Api, namespace: str, name: str, property_name: str, limit: int
) -> list[dict[str, Any]]:
    """Return what became of a device's properties, newest first, as its node tells.

    Raises:
        MissingError: there is no such device, or it is not at its node yet.
        AwayError: the node is away.
        CommandError: the API server has no way to ask the node.
    """
    path = api.find_type(DEVICES).path(namespace, name)
    device = api.request("GET", path)
    query = {"property": property_name, "limit": str(limit)}
    try:
        answer = api.request(
            "GET", f"{path}/history", query={key: each for key, each in query.items() if each}
        )
    except MissingError as exc:
        if any(words in str(exc) for words in _NO_PATH):
            node = str(_dict(device.get("spec")).get("nodeName") or "its node")
            raise CommandError(
                "this API server has no way to a node's history: only fedge's own has. Ask at the "
                f"node: on {node}, as root, run `fedge device history {name} -n {namespace} "
                "--edge-data-dir /var/lib/fedge`",
                status=_NOT_FOUND,
            ) from exc
        raise
    return _list(answer.get("items"))


def _feed(
    api: Api,
    query: Query,
    kind: str,
    into: "queue.SimpleQueue[tuple[str, dict[str, Any]] | CommandError]",
) -> None:
    try:
        for seen in watch_objects(api, query):
            into.put((kind, seen.object))
    except CommandError as exc:
        into.put(exc)
    except RuntimeError as exc:
        into.put(AwayError(f"the connection to the server was closed: {exc}"))


def _property(
    name: str, manifest: str | None, twin: Mapping[str, Any], more: Mapping[str, Any]
) -> PropertyView:
    observed, reported = _dict(twin.get("observedDesired")), _dict(twin.get("reported"))
    conflict, problem = _dict(more.get("conflict")), _dict(more.get("problem"))
    return PropertyView(
        name=name,
        manifest=manifest,
        held=as_text(observed["value"]) if "value" in observed else None,
        is_edges=more.get("desiredBy") == "edge",
        reported=as_text(reported["value"]) if "value" in reported else None,
        reported_at=from_milliseconds(_dict(reported.get("metadata")).get("timestamp")),
        conflict=f"{shown(str(conflict.get('lost')))} was lost" if conflict else "",
        problem=str(problem.get("message") or problem.get("reason") or ""),
    )


def _needed_model(api: Api, device: Mapping[str, Any]) -> Model | None:
    """Return the model of a device; None if it names none.

    Raises:
        CommandError: it names one that is not there.
    """
    name = _dict(_dict(device.get("spec")).get("deviceModelRef")).get("name")
    model = _model(api, device)
    if name and model is None:
        raise CommandError(
            f"device model {str(name)!r}, which the device names, is not there: apply it first"
        )
    return model


def _model(api: Api, device: Mapping[str, Any]) -> Model | None:
    name = _dict(_dict(device.get("spec")).get("deviceModelRef")).get("name")
    if not name:
        return None
    namespace = str(device["metadata"].get("namespace") or "default")
    found = _found(api, api.find_type(DEVICE_MODELS), namespace, str(name))
    return None if found is None else read_model(found)


def _found(api: Api, kind: ResourceType, namespace: str, name: str) -> dict[str, Any] | None:
    try:
        return api.request("GET", kind.path(namespace, name))
    except MissingError:
        return None


def _key(obj: Mapping[str, Any]) -> tuple[str, str]:
    metadata = obj["metadata"]
    return str(metadata.get("namespace") or "default"), str(metadata["name"])


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
