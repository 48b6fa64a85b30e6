"""What the loops share: whom an object belongs to, and one object at a time.

A loop reads what is stored at the moment, and each of its writes is visible when it returns; so
there is nothing to expect and nothing to wait for between one look and the next.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import structlog

from fedge_apiserver.controllers._following import Recorder
from fedge_apiserver.errors import ApiError
from fedge_apiserver.registry import DeleteOptions, Registry
from fedge_apiserver.resources import Resource
from fedge_apiserver.storage import Entry
from fedge_apiserver.store import Event, decode
from fedge_objects import JsonObject

log = structlog.stdlib.get_logger("fedge.apiserver.workloads")

_AGAIN_SECONDS: Final = 1.0
Key = tuple[str, str]
"""Namespace and name."""


class _Owner(msgspec.Struct):
    kind: str
    name: str
    uid: str
    controller: bool | None = None


class _Meta(msgspec.Struct):
    ownerReferences: list[_Owner] | None = None  # noqa: N815 - the field's name


class _Glance(msgspec.Struct):
    metadata: _Meta


_glance: Final = msgspec.json.Decoder(_Glance).decode


def controller_of(entry: Entry) -> tuple[str, str, str] | None:
    """Return kind, name and uid of the object that looks after an entry's; None if none does."""
    if b'"ownerReferences"' not in entry.body:
        return None
    for owner in _glance(entry.body).metadata.ownerReferences or ():
        if owner.controller:
            return owner.kind, owner.name, owner.uid
    return None


class Owned:
    """The objects of one resource by the uid of who looks after them, as they are stored now."""

    def __init__(self, registry: Registry, resource: Resource) -> None:
        self._registry = registry
        self._storage = resource.storage
        self._owners: dict[Key, str] = {}
        self._keys: dict[str, dict[Key, None]] = {}

    def note(self, entry: Entry) -> None:
        """Take notice of an object's new state."""
        key = (entry.namespace, entry.name)
        before = self._owners.pop(key, None)
        if before is not None:
            self._keys[before].pop(key, None)
            if not self._keys[before]:
                del self._keys[before]
        owner = None if entry.deleted else controller_of(entry)
        if owner is not None:
            self._owners[key] = owner[2]
            self._keys.setdefault(owner[2], {})[key] = None

    def of(self, uid: str) -> list[JsonObject]:
        """Return the objects that one looks after."""
        store = self._registry.store
        found = (store.get(self._storage, *key) for key in self._keys.get(uid, ()))
        return [decode(entry.body) for entry in found if entry is not None]


class Loop(ABC):
    """Looks after the objects of one resource, each as often as it or what it owns changes."""

    def __init__(
        self,
        registry: Registry,
        resource: Resource,
        owned: Resource,
        component: str,
        *,
        beside: Iterable[Resource] = (),
    ) -> None:
        """Prepare.

        Args:
            registry: the objects.
            resource: what is looked after.
            owned: what it makes.
            component: the loop's name in events.
            beside: resources of which any change concerns all that is looked after.
        """
        self.registry = registry
        self.resource = resource
        self.owned_resource = owned
        self.owned = Owned(registry, owned)
        self.recorder = Recorder(registry, component)
        self._beside = {each.storage for each in beside}
        self._due: dict[Key, None] = {}
        self._news = asyncio.Event()
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        store = self.registry.store
        store.observers.append(self._observe)
        try:
            for entry in list(store.select(self.owned_resource.storage)):
                self.owned.note(entry)
            self._all_due()
            while True:
                await self._news.wait()
                self._news.clear()
                while self._due:
                    key = next(iter(self._due))
                    del self._due[key]
                    await self._look_at(key)
        finally:
            store.observers.remove(self._observe)
            for timer in self._timers.values():
                timer.cancel()

    @abstractmethod
    async def settle(self, value: JsonObject) -> float | None:
        """Bring what an object owns, and its status, to what it says.

        Returns:
            after how many seconds to look again, whatever happens; None for never.
        """

    async def let_go(  # noqa: B027 - most loops have nothing to do then
        self, key: Key, value: JsonObject | None
    ) -> None:
        """Do what is left to do for an object that is gone, or going; nothing, by default."""

    def due(self, key: Key) -> None:
        """Have an object looked at."""
        self._due[key] = None
        self._news.set()

    async def write_status(self, value: JsonObject, status: JsonObject) -> None:
        """Write an object's status, if it is another."""
        if (value.get("status") or {}) == status:
            return
        meta = value["metadata"]
        await self.registry.update(
            self.resource,
            meta["namespace"],
            meta["name"],
            lambda old: {**old, "status": status},
            subresource="status",
        )

    async def remove(self, resource: Resource, value: JsonObject) -> None:
        """Delete an object that is owned; one that is gone already is as good."""
        meta = value["metadata"]
        try:
            await self.registry.delete(
                resource, meta["namespace"], meta["name"], DeleteOptions(uid=meta["uid"])
            )
        except ApiError as exc:
            if exc.reason not in ("NotFound", "Conflict"):
                raise

    def _observe(self, event: Event) -> None:
        entry = event.entry
        if entry.resource == self.resource.storage:
            self.due((entry.namespace, entry.name))
        if entry.resource == self.owned_resource.storage:
            for state in (event.before, entry):
                owner = controller_of(state) if state is not None else None
                if owner is not None and owner[0] == self.resource.kind:
                    self.due((entry.namespace, owner[1]))
            self.owned.note(entry)
        if entry.resource in self._beside:
            self._all_due()

    def _all_due(self) -> None:
        for entry in self.registry.store.select(self.resource.storage):
            self.due((entry.namespace, entry.name))

    async def _look_at(self, key: Key) -> None:
        value = self.registry.read(self.resource, *key)
        try:
            if value is None or value["metadata"].get("deletionTimestamp"):
                again = None
                await self.let_go(key, value)
            else:
                again = await self.settle(value)
        except ApiError as exc:
            # Something changed meanwhile, or a namespace goes: that, or a moment, brings it here.
            log.info("workload_waits", kind=self.resource.kind, object="/".join(key), why=str(exc))
            again = _AGAIN_SECONDS if exc.reason != "Forbidden" else None
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if again is not None:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(again, self._timed, key)

    def _timed(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.due(key)


def owner_reference(value: JsonObject) -> JsonObject:
    """Return the reference by which an object is looked after by another."""
    return {
        "apiVersion": value["apiVersion"],
        "kind": value["kind"],
        "name": value["metadata"]["name"],
        "uid": value["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def pod_of(owner: JsonObject, labels: dict[str, str], **spec: Any) -> JsonObject:
    """Return a pod of an owner's template, with a name of its own."""
    template = owner["spec"]["template"]
    meta = template["metadata"]
    metadata: JsonObject = {
        "generateName": f"{owner['metadata']['name']}-",
        "namespace": owner["metadata"]["namespace"],
        "labels": {**(meta.get("labels") or {}), **labels},
        "ownerReferences": [owner_reference(owner)],
    }
    for field in ("annotations", "finalizers"):
        if meta.get(field):
            metadata[field] = meta[field]
    # The template belongs to the owner's stored state: what is made of it must not share it.
    copied = msgspec.json.decode(msgspec.json.encode(template["spec"]))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**copied, **spec},
    }


def condition(value: JsonObject, kind: str) -> JsonObject:
    """Return a condition of an object; empty if it has none of that kind."""
    found: JsonObject = next(
        (c for c in (value.get("status") or {}).get("conditions") or () if c.get("type") == kind),
        {},
    )
    return found


def is_ready(pod: JsonObject) -> bool:
    """Whether a pod is ready."""
    return condition(pod, "Ready").get("status") == "True"


def is_active(pod: JsonObject) -> bool:
    """Whether a pod runs, or will."""
    phase = (pod.get("status") or {}).get("phase")
    return not pod["metadata"].get("deletionTimestamp") and phase not in ("Succeeded", "Failed")
