"""All objects in memory, over a storage that outlives the process.

Reads and watches see what is on the disk, never more. Writers see one step further, the *head*:
what was submitted before them, durable or not, so that many writers share one fsync and yet each
is checked against the newest state. If the storage fails, everything submitted since the last
success fails with it, and the head falls back.

A watch is a cursor into its resource's history. History is bounded by count and bytes; a cursor
that falls behind is told so (410 Gone). It is rebuilt from the storage, so a watch goes on across
a restart where it was.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Self

import msgspec
import structlog

from fedge_apiserver.storage import Entry, Storage, StorageError
from fedge_objects import JsonObject

log = structlog.stdlib.get_logger("fedge.apiserver.store")

HISTORY_EVENTS: Final = 10_000
HISTORY_BYTES: Final = 12 * 2**20

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(dict).decode


class ExpiredError(Exception):
    """The history does not reach back that far: list again."""


@dataclass(slots=True, eq=False)
class Event:
    """A change of one object, as watchers see it.

    Attributes:
        entry: the new state; for a deletion, the last one.
        before: the state that it replaced; None if the object is new.
        lines: its encodings for the wire by type and view, made once for all watchers.
    """

    entry: Entry
    before: Entry | None
    lines: dict[tuple[str, str], bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the states that it holds on to."""
        return len(self.entry.body) + (len(self.before.body) if self.before is not None else 0)


class Collection:
    """The objects of one resource, and what happened to them of late."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Entry] = {}
        self.keys: list[tuple[str, str]] = []
        self.events: list[Event] = []
        self.dropped = 0
        """How many events were dropped from the front: absolute position of ``events[0]``."""
        self.wakes: set[asyncio.Event] = set()

    def apply(self, event: Event) -> None:
        """Make a committed change visible."""
        entry = event.entry
        key = (entry.namespace, entry.name)
        if entry.deleted:
            if self.objects.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
        else:
            if key not in self.objects:
                insort(self.keys, key)
            self.objects[key] = entry
        self.events.append(event)
        for wake in self.wakes:
            wake.set()

    def drop_oldest(self) -> None:
        """Forget the oldest event."""
        self.events.pop(0)
        self.dropped += 1

    def select(self, namespace: str, after: tuple[str, str] | None) -> Iterator[Entry]:
        """Yield the objects of a namespace (all, if empty) in the order of their names."""
        keys = self.keys
        start, end = 0, len(keys)
        if namespace:
            start = bisect_left(keys, (namespace, ""))
            end = bisect_left(keys, (namespace + "\0", ""))
        if after is not None:
            start = max(start, bisect_right(keys, after))
        for key in keys[start:end]:
            yield self.objects[key]


@dataclass(slots=True, eq=False)
class _Submitted:
    entry: Entry
    durable: asyncio.Future[None]


class Watch:
    """A cursor over the changes of one resource. Use it as a context manager."""

    def __init__(self, store: "Store", collection: Collection, position: int) -> None:
        self._store = store
        self._collection = collection
        self._position = position
        self._wake = asyncio.Event()

    def __enter__(self) -> Self:
        self._collection.wakes.add(self._wake)
        return self

    def __exit__(self, *_: object) -> None:
        self._collection.wakes.discard(self._wake)

    def take(self) -> list[Event]:
        """Return the changes since the last call, without waiting.

        Raises:
            ExpiredError: some of them are forgotten already.
        """
        self._wake.clear()
        collection = self._collection
        offset = self._position - collection.dropped
        if offset < 0:
            raise ExpiredError("the watcher is too slow: history was dropped before it was read")
        events = collection.events[offset:]
        self._position += len(events)
        return events

    @property
    def seen(self) -> int:
        """The newest revision up to which every change was taken."""
        offset = self._position - self._collection.dropped
        if 0 <= offset < len(self._collection.events):
            return self._collection.events[offset].entry.revision - 1
        return self._store.revision

    async def wait(self) -> None:
        """Return when there may be something to take, or somebody called ``wake``."""
        await self._wake.wait()

    def wake(self) -> None:
        """Make ``wait`` return."""
        self._wake.set()


class Store:
    """The objects of one API server."""

    def __init__(
        self,
        storage: Storage,
        *,
        history_events: int = HISTORY_EVENTS,
        history_bytes: int = HISTORY_BYTES,
    ) -> None:
        self._storage = storage
        self._history_events = history_events
        self._history_bytes = history_bytes
        self._collections: dict[str, Collection] = {}
        self._order: deque[Event] = deque()
        self._order_bytes = 0
        self._revision = 0
        self._compacted = 0
        self._head_revision = 0
        self._head: dict[tuple[str, str, str], Entry] = {}
        self._queue: list[_Submitted] = []
        self._writing: list[_Submitted] = []
        self._forget: list[int] = []
        self._flushing: asyncio.Task[None] | None = None
        self.observers: list[Callable[[Event], None]] = []
        """Called with every change as it becomes visible; must not fail, nor write."""

    @property
    def revision(self) -> int:
        """The newest revision that is durable and visible."""
        return self._revision

    @property
    def oldest(self) -> int:
        """The oldest revision that a watch may start from."""
        return self._compacted

    async def open(self) -> None:
        """Read everything from the storage.

        Raises:
            StorageError: it cannot be read.
        """
        held = await self._storage.open()
        by_revision = {entry.revision: entry for entry in held.entries}
        self._compacted = held.compacted
        for entry in held.entries:
            event = Event(entry, by_revision.get(entry.previous))
            collection = self._collection(entry.resource)
            collection.apply(event)
            if entry.revision > held.compacted:
                self._remember(event)
                continue
            collection.events.pop()
            # What the last run had not come to forget.
            if entry.deleted:
                self._forget.append(entry.revision)
            if event.before is not None:
                self._forget.append(event.before.revision)
        self._revision = self._head_revision = held.revision
        log.info(
            "store_opened",
            revision=self._revision,
            objects=sum(len(c.objects) for c in self._collections.values()),
        )

    async def close(self) -> None:
        """Finish what was submitted, then close the storage."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])
        await self._storage.close()

    def get(self, resource: str, namespace: str, name: str) -> Entry | None:
        """Return an object as it is on the disk."""
        collection = self._collections.get(resource)
        return collection.objects.get((namespace, name)) if collection else None

    def head(self, resource: str, namespace: str, name: str) -> Entry | None:
        """Return an object as the next writer must see it."""
        pending = self._head.get((resource, namespace, name))
        if pending is not None:
            return None if pending.deleted else pending
        return self.get(resource, namespace, name)

    def select(
        self, resource: str, namespace: str = "", after: tuple[str, str] | None = None
    ) -> Iterator[Entry]:
        """Yield the objects of a resource, by namespace and name, those behind ``after`` only."""
        collection = self._collections.get(resource)
        return collection.select(namespace, after) if collection else iter(())

    def snapshot(self, resource: str, namespace: str, revision: int) -> list[Entry]:
        """Return a resource's objects as they were at a revision, by namespace and name.

        Raises:
            ExpiredError: history does not reach back to it.
        """
        if revision < self._compacted:
            raise ExpiredError(f"too old resource version: {revision} ({self._compacted})")
        collection = self._collection(resource)
        found = {(e.namespace, e.name): e for e in collection.select(namespace, None)}
        events = collection.events
        since = bisect_right(events, revision, key=lambda e: e.entry.revision)
        for event in reversed(events[since:]):
            key = (event.entry.namespace, event.entry.name)
            if namespace and key[0] != namespace:
                continue
            if event.before is None:
                found.pop(key, None)
            else:
                found[key] = event.before
        return [found[key] for key in sorted(found)]

    def is_unchanged(self, resource: str, revision: int) -> bool:
        """Whether nothing happened to a resource's objects after a revision."""
        if revision < self._compacted:
            return False
        events = self._collection(resource).events
        return not events or events[-1].entry.revision <= revision

    def count(self, resource: str) -> int:
        """Return how many objects a resource has."""
        collection = self._collections.get(resource)
        return len(collection.objects) if collection else 0

    def resources(self) -> list[str]:
        """Return the resources that have ever had objects."""
        return list(self._collections)

    def watch(self, resource: str, revision: int) -> Watch:
        """Return a cursor at the first change after ``revision``.

        Raises:
            ExpiredError: history does not reach back to it.
        """
        if revision < self._compacted:
            raise ExpiredError(f"too old resource version: {revision} ({self._compacted})")
        collection = self._collection(resource)
        offset = bisect_right(collection.events, revision, key=lambda e: e.entry.revision)
        return Watch(self, collection, collection.dropped + offset)

    def wake_watches(self, resource: str) -> None:
        """Make all watches of a resource look up."""
        for wake in self._collection(resource).wakes:
            wake.set()

    async def put(self, resource: str, namespace: str, name: str, body: JsonObject) -> Entry:
        """Write an object under the next revision, which is set in it; return when it is durable.

        The step from the caller's look at ``head`` to this call must not await: that is what makes
        a read-modify-write atomic.

        Raises:
            StorageError: it was not written.
        """
        return await self._submit(resource, namespace, name, body, deleted=False)

    async def delete(self, resource: str, namespace: str, name: str, body: JsonObject) -> Entry:
        """Remove an object; ``body`` is its last state. Otherwise as ``put``."""
        return await self._submit(resource, namespace, name, body, deleted=True)

    async def settle(self, entry: Entry) -> None:
        """Return when an entry got from ``head`` is durable.

        Raises:
            StorageError: it was not written.
        """
        for submitted in (*self._writing, *self._queue):
            if submitted.entry is entry:
                await asyncio.shield(submitted.durable)

    async def settled(self) -> None:
        """Return when all that was submitted up to now is durable.

        Raises:
            StorageError: some of it was not written.
        """
        for submitted in (*self._writing, *self._queue)[-1:]:  # what is before it goes with it
            await asyncio.shield(submitted.durable)

    def _collection(self, resource: str) -> Collection:
        collection = self._collections.get(resource)
        if collection is None:
            collection = self._collections[resource] = Collection()
        return collection

    async def _submit(
        self, resource: str, namespace: str, name: str, body: JsonObject, *, deleted: bool
    ) -> Entry:
        key = (resource, namespace, name)
        before = self.head(*key)
        self._head_revision += 1
        revision = self._head_revision
        body["metadata"]["resourceVersion"] = str(revision)
        entry = Entry(
            revision,
            resource,
            namespace,
            name,
            before.created if before else revision,
            before.revision if before else 0,
            deleted,
            encode(body),
        )
        self._head[key] = entry
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(_Submitted(entry, durable))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="apiserver-store-flush")
        await asyncio.shield(durable)
        return entry

    async def _flush(self) -> None:
        """Write what is queued until nothing is; everything of one round in one transaction."""
        try:
            while self._queue:
                self._writing, self._queue = self._queue, []
                forget = self._trim()
                try:
                    await self._storage.append(
                        [submitted.entry for submitted in self._writing], forget, self._compacted
                    )
                except StorageError as exc:
                    self._forget[:0] = forget
                    self._fail(exc)
                else:
                    self._commit()
        finally:
            self._flushing = None

    def _commit(self) -> None:
        for submitted in self._writing:
            entry = submitted.entry
            key = (entry.resource, entry.namespace, entry.name)
            if self._head.get(key) is entry:
                del self._head[key]
            collection = self._collection(entry.resource)
            event = Event(entry, collection.objects.get((entry.namespace, entry.name)))
            self._revision = entry.revision
            self._remember(event)
            collection.apply(event)
            for observer in self.observers:
                observer(event)
            if not submitted.durable.done():
                submitted.durable.set_result(None)
        self._writing = []

    def _fail(self, exc: StorageError) -> None:
        log.error("store_write_failed", error=str(exc), writes=len(self._writing))
        failed = self._writing + self._queue
        self._writing, self._queue = [], []
        self._head.clear()
        self._head_revision = self._revision
        for submitted in failed:
            if not submitted.durable.done():
                submitted.durable.set_exception(StorageError(str(exc)))
                # Its writer may be gone; asyncio would complain that nobody looked.
                submitted.durable.exception()

    def _remember(self, event: Event) -> None:
        self._order.append(event)
        self._order_bytes += event.size
        while (
            len(self._order) > self._history_events or self._order_bytes > self._history_bytes
        ) and len(self._order) > 1:
            oldest = self._order.popleft()
            self._order_bytes -= oldest.size
            self._compacted = oldest.entry.revision
            self._collection(oldest.entry.resource).drop_oldest()
            if oldest.before is not None:
                self._forget.append(oldest.before.revision)
            if oldest.entry.deleted:
                self._forget.append(oldest.entry.revision)

    def _trim(self) -> list[int]:
        forget, self._forget = self._forget, []
        return forget
