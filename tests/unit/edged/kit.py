"""Pods, objects and ears for the tests of edged."""

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedge_cri import Container, ContainerState, ContainerStatus, Sandbox
from fedge_edged.logs import Limit, Log, LogOptions
from fedge_edged.node_pods import NodeObjects
from fedge_edged.observed import Observed
from fedge_edged.pods import Pod, read_pod
from fedge_edged.reporting import failure
from fedge_edged.specs import HASH, RESTARTS, spec_hash
from fedge_objects import Change, JsonObject, ObjectKey, Version

IMAGE = "fedge.local/busybox:1"
EPOCH = 1_800_000_000.0
"""When the tests' clocks begin."""


def container_object(name: str = "main", **fields: Any) -> JsonObject:
    return {"name": name, "image": IMAGE, **fields}


def pod_object(
    name: str = "a", *, meta: Mapping[str, Any] | None = None, **spec: Any
) -> JsonObject:
    """Return a pod of one container; ``spec`` adds to its spec or replaces."""
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", **(meta or {})},
        "spec": {"containers": [container_object()], "terminationGracePeriodSeconds": 5, **spec},
    }


def pod(name: str = "a", *, meta: Mapping[str, Any] | None = None, **spec: Any) -> Pod:
    return read_pod(pod_object(name, meta=meta, **spec))


def deleted(obj: JsonObject, *, grace_seconds: int = 5) -> JsonObject:
    """Return a pod whose deletion was asked for."""
    marks = {
        "deletionTimestamp": "2027-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": grace_seconds,
    }
    return {**obj, "metadata": {**obj["metadata"], **marks}}


def key_of(resource: str, name: str) -> ObjectKey:
    return ObjectKey(resource, "default", name)


def config_map(name: str, data: Mapping[str, str], **more: Any) -> JsonObject:
    return {"metadata": {"name": name, "namespace": "default"}, "data": dict(data), **more}


def secret(name: str, data: Mapping[str, str | bytes]) -> JsonObject:
    encoded = {
        key: base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
        for key, value in data.items()
    }
    return {"metadata": {"name": name, "namespace": "default"}, "data": encoded}


def change(resource: str, name: str, obj: JsonObject | None, version: int = 1) -> Change:
    return Change(key=key_of(resource, name), version=Version(version, version), object=obj)


def objects(**resources: list[JsonObject]) -> NodeObjects:
    """Return a node's objects: ``objects(configmaps=[...], secrets=[...])``."""
    held = NodeObjects()
    for resource, items in resources.items():
        for item in items:
            held.put(change(resource, item["metadata"]["name"], item))
    return held


def read_log(path: Path, options: LogOptions) -> str:
    """Return what is there of a log and wanted."""
    limit = Limit(options.limit_bytes)
    with Log(path, options) as log:
        return "".join(limit.cut(text) for text in log.first())


@dataclass(slots=True)
class Clock:
    """A clock that stands until it is set."""

    time: float = EPOCH

    def now(self) -> float:
        return self.time


class LoopClock:
    """The event loop's time, which the tests make virtual."""

    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it was recorded."""

    kind: str
    reason: str
    message: str
    field: str


@dataclass(slots=True)
class Ears:
    """``Reporter`` that remembers, and wakes whoever waits for something to be told."""

    statuses: list[tuple[str, JsonObject, bool]] = field(default_factory=list)
    events: list[tuple[str, Event]] = field(default_factory=list)
    effects: dict[ObjectKey, str] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def pod_status(self, pod: Pod, status: JsonObject, *, finished: bool) -> None:
        self.statuses.append((pod.metadata.name, status, finished))
        self._news.set()

    def pod_effect(self, pod: Pod, status: JsonObject) -> None:
        if pod.version is not None:
            self.effects[pod.key] = failure(status) or str(pod.version)

    def applied(self, key: ObjectKey, version: Version) -> None:
        self.effects[key] = str(version)

    def failed(self, key: ObjectKey, version: Version, reason: str) -> None:
        self.effects[key] = f"{version}: {reason}"

    def event(self, pod: Pod, kind: str, reason: str, message: str, *, field: str = "") -> None:
        self.events.append((pod.metadata.name, Event(kind, reason, message, field)))
        self._news.set()

    def newest(self, name: str = "a") -> JsonObject:
        """Return the status last told of a pod; empty if none was."""
        told = [status for pod, status, _ in self.statuses if pod == name]
        return told[-1] if told else {}

    def finished(self, name: str = "a") -> list[JsonObject]:
        return [status for pod, status, finished in self.statuses if finished and pod == name]

    def reasons(self, name: str = "a") -> list[str]:
        return [event.reason for pod, event in self.events if pod == name]

    async def until(self, condition: Callable[[], object], *, seconds: float = 60.0) -> None:
        """Wait for something to hold that shows in what is told."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._news.clear()
                await self._news.wait()


def phase(status: JsonObject) -> str:
    return str(status.get("phase", ""))


def state(status: JsonObject, container: int = 0) -> JsonObject:
    """Return the state of a container in a status."""
    states: list[JsonObject] = status.get("containerStatuses") or []
    return dict(states[container]["state"]) if states else {}


def waiting_reason(status: JsonObject, container: int = 0) -> str:
    return str(state(status, container).get("waiting", {}).get("reason", ""))


def restarts(status: JsonObject, container: int = 0) -> int:
    return int(status["containerStatuses"][container]["restartCount"]) if status else 0


class Seen:
    """Builds what the runtime has of a pod."""

    def __init__(self, pod: Pod, *, sandboxes: int = 1, ready: bool = True) -> None:
        self._pod = pod
        self.observed = Observed(ips=("10.88.0.2",) if ready and sandboxes else ())
        for attempt in range(sandboxes):
            self.observed.sandboxes[f"s{attempt}"] = Sandbox(
                id=f"s{attempt}",
                name=pod.metadata.name,
                namespace=pod.metadata.namespace,
                uid=pod.metadata.uid,
                attempt=attempt,
                is_ready=ready and attempt == sandboxes - 1,
                created_at=int((EPOCH + attempt) * 1e9),
                labels={},
                annotations={},
            )

    def has(
        self,
        name: str,
        state: ContainerState,
        code: int = 0,
        *,
        attempt: int = 0,
        sandbox: int | None = None,
        ended: float = 10.0,
        image: str = "",
    ) -> "Seen":
        """Add a container; ``ended`` is in seconds after the epoch of the tests."""
        made = [*self._pod.spec.init_containers, *self._pod.spec.containers]
        wanted = next(each for each in made if each.name == name)
        newest = len(self.observed.sandboxes) - 1 if sandbox is None else sandbox
        container_id = f"{name}-{attempt}"
        self.observed.containers[container_id] = Container(
            id=container_id,
            sandbox_id=f"s{newest}",
            name=name,
            attempt=attempt,
            image=image or IMAGE,
            image_ref="sha256:1",
            state=state,
            created_at=int(EPOCH * 1e9) + attempt,
            labels={},
            annotations={HASH: image or spec_hash(wanted), RESTARTS: str(attempt)},
        )
        if state is not ContainerState.CREATED:
            exited = state is ContainerState.EXITED
            self.observed.statuses[container_id] = ContainerStatus(
                id=container_id,
                state=state,
                started_at=int((EPOCH + 1) * 1e9),
                finished_at=int((EPOCH + ended) * 1e9) if exited else 0,
                exit_code=code,
                reason=("Completed" if code == 0 else "Error") if exited else "",
                message="",
                image=IMAGE,
                image_ref="sha256:1",
            )
        return self
