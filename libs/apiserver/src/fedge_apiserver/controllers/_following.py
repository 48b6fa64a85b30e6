"""What control loops share: objects as they change, and events that tell users why."""

from collections.abc import AsyncIterator
from hashlib import sha256

from fedge_apiserver.errors import ApiError
from fedge_apiserver.objects import timestamp
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import EVENTS, Resource
from fedge_apiserver.storage import Entry
from fedge_apiserver.store import ExpiredError
from fedge_objects import JsonObject


async def follow(registry: Registry, resource: Resource) -> AsyncIterator[list[Entry]]:
    """Yield all objects of a resource, then the changed ones as they change, without end.

    A deleted object comes once more, marked so. After a gap all objects come again.
    """
    store = registry.store
    while True:
        revision = store.revision
        yield list(store.select(resource.storage))
        try:
            with store.watch(resource.storage, revision) as watch:
                while True:
                    if events := watch.take():
                        yield [event.entry for event in events]
                    else:
                        await watch.wait()
        except ExpiredError:
            continue


class Recorder:
    """Writes events; a repetition raises the count of the one that is there.

    https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
    """

    def __init__(self, registry: Registry, component: str) -> None:
        self._registry = registry
        self._component = component

    async def record(self, involved: JsonObject, kind: str, reason: str, message: str) -> None:
        """Tell something about an object.

        Args:
            involved: the object.
            kind: ``Normal`` or ``Warning``.
            reason: one word.
            message: what happened.
        """
        meta = involved["metadata"]
        namespace = meta.get("namespace") or "default"
        text = "\0".join((meta["uid"], reason, message))
        digest = sha256(text.encode()).hexdigest()[:16]
        now = timestamp(self._registry.now())
        name = f"{meta['name'][:200]}.{digest}"

        def repeat(event: JsonObject) -> JsonObject:
            return {**event, "count": int(event.get("count") or 1) + 1, "lastTimestamp": now}

        try:
            if self._registry.store.head(EVENTS.storage, namespace, name) is not None:
                await self._registry.update(EVENTS, namespace, name, repeat)
                return
            await self._registry.create(
                EVENTS,
                namespace,
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": {"name": name, "namespace": namespace},
                    "involvedObject": {
                        "apiVersion": involved["apiVersion"],
                        "kind": involved["kind"],
                        "name": meta["name"],
                        "namespace": meta.get("namespace", ""),
                        "uid": meta["uid"],
                        "resourceVersion": meta["resourceVersion"],
                    },
                    "reason": reason,
                    "message": message,
                    "type": kind,
                    "source": {"component": self._component},
                    "reportingComponent": self._component,
                    "reportingInstance": "",
                    "firstTimestamp": now,
                    "lastTimestamp": now,
                    "count": 1,
                },
            )
        except ApiError as exc:
            # A namespace that is going away takes no events; nobody would read them.
            if exc.code not in (403, 404, 409):
                raise
