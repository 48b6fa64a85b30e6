"""Deletes what belonged to what is gone.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

import asyncio
from typing import Any

import structlog

from fedge_apiserver.errors import ApiError
from fedge_apiserver.registry import DeleteOptions, Registry
from fedge_apiserver.resources import Resource
from fedge_apiserver.storage import Entry
from fedge_apiserver.store import Event, decode
from fedge_objects import JsonObject

log = structlog.stdlib.get_logger("fedge.apiserver.garbage")

_Key = tuple[str, str, str]


class GarbageCollector:
    """Knows which objects have owners, and looks at those whose owners change."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._dependents: dict[str, set[_Key]] = {}
        """The objects that name an owner, by its uid."""
        self._owners: dict[_Key, frozenset[str]] = {}
        self._suspects: dict[_Key, None] = {}
        """Objects to look at: they have owners, or wait for their dependents."""
        self._due = asyncio.Event()

    async def run(self) -> None:
        """Collect until cancelled."""
        store = self._registry.store
        store.observers.append(self._observe)
        try:
            for resource in store.resources():
                for entry in list(store.select(resource)):
                    self._note(entry)
            while True:
                self._due.clear()
                for key in list(self._suspects):
                    self._suspects.pop(key, None)
                    await self._look_at(key)
                await self._due.wait()
        finally:
            store.observers.remove(self._observe)

    def _observe(self, event: Event) -> None:
        self._note(event.entry)

    def _note(self, entry: Entry) -> None:
        """Keep the index, and note what must be looked at. Most objects pass untouched."""
        key = (entry.resource, entry.namespace, entry.name)
        has_owners = b'"ownerReferences"' in entry.body
        is_ending = b'"deletionTimestamp"' in entry.body
        before = self._owners.pop(key, frozenset())
        for uid in before:
            self._dependents[uid].discard(key)
            if not self._dependents[uid]:
                del self._dependents[uid]
        if not (has_owners or is_ending or entry.deleted) and not before:
            return
        meta = decode(entry.body)["metadata"]
        if entry.deleted:
            self._suspect(self._dependents.get(meta["uid"], set()))
            # An owner that goes in the foreground waits for this one.
            self._suspect_owners(meta, entry.namespace)
            return
        owners = frozenset(o["uid"] for o in meta.get("ownerReferences") or ())
        if owners:
            self._owners[key] = owners
            for uid in owners:
                self._dependents.setdefault(uid, set()).add(key)
        if owners or {"foregroundDeletion", "orphan"} & set(meta.get("finalizers") or ()):
            self._suspect({key})

    def _suspect(self, keys: set[_Key]) -> None:
        if keys:
            self._suspects.update(dict.fromkeys(keys))
            self._due.set()

    def _suspect_owners(self, meta: dict[str, Any], namespace: str) -> None:
        for owner in meta.get("ownerReferences") or ():
            if (found := self._find(owner, namespace)) is not None:
                self._suspect({(found.resource, found.namespace, found.name)})

    def _find(self, owner: dict[str, Any], namespace: str) -> Entry | None:
        """Return the owner that a reference names, if it is there."""
        group, _, _ = owner["apiVersion"].rpartition("/")
        for resource in self._registry.catalog:
            if resource.group == group and resource.kind == owner["kind"] and resource.storage:
                where = namespace if resource.namespaced else ""
                entry = self._registry.store.get(resource.storage, where, owner["name"])
                if entry is not None and decode(entry.body)["metadata"]["uid"] == owner["uid"]:
                    return entry
        return None

    async def _look_at(self, key: _Key) -> None:
        storage, namespace, name = key
        entry = self._registry.store.get(*key)
        resource = self._registry.catalog.stored().get(storage)
        if entry is None or resource is None:
            return
        value = decode(entry.body)
        meta = value["metadata"]
        try:
            if meta.get("deletionTimestamp"):
                finalizers = meta.get("finalizers") or []
                if "orphan" in finalizers:
                    await self._release(meta["uid"])
                    await self._finish(resource, namespace, name, "orphan")
                elif "foregroundDeletion" in finalizers and not await self._delete_dependents(
                    meta["uid"]
                ):
                    await self._finish(resource, namespace, name, "foregroundDeletion")
                return
            owners = meta.get("ownerReferences") or []
            there = [owner for owner in owners if self._find(owner, namespace) is not None]
            if owners and not there:
                log.info("garbage_collected", resource=storage, object=f"{namespace}/{name}")
                await self._registry.delete(
                    resource, namespace, name, DeleteOptions(uid=meta["uid"])
                )
        except ApiError as exc:
            # Changed or gone meanwhile: that change brings it here again.
            if exc.code not in (404, 409):
                raise

    async def _delete_dependents(self, uid: str) -> bool:
        """Delete an owner's dependents; return whether some are still there."""
        stored = self._registry.catalog.stored()
        for storage, namespace, name in list(self._dependents.get(uid, ())):
            held = self._registry.store.get(storage, namespace, name)
            if held is None or b'"deletionTimestamp"' in held.body:
                continue
            await self._registry.delete(
                stored[storage], namespace, name, DeleteOptions(propagation="Foreground")
            )
        return bool(self._dependents.get(uid))

    async def _release(self, uid: str) -> None:
        """Take an owner out of its dependents."""

        def change(value: JsonObject) -> JsonObject:
            meta = value["metadata"]
            others = [o for o in meta.get("ownerReferences") or () if o["uid"] != uid]
            return {**value, "metadata": {**meta, "ownerReferences": others}}

        stored = self._registry.catalog.stored()
        for storage, namespace, name in list(self._dependents.get(uid, ())):
            await self._registry.update(stored[storage], namespace, name, change)

    async def _finish(self, resource: Resource, namespace: str, name: str, finalizer: str) -> None:
        def change(value: JsonObject) -> JsonObject:
            meta = value["metadata"]
            rest = [held for held in meta.get("finalizers") or () if held != finalizer]
            return {**value, "metadata": {**meta, "finalizers": rest}}

        await self._registry.update(resource, namespace, name, change)
