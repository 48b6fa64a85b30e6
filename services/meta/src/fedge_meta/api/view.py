"""What the API shows: the objects that the node was given, as they are at this moment.

Of each object three things are put together: what the cloud gave (``meta.db``), what the node's own
services say of it (``Observed``), and what was written to it here and waits for the cloud
(``Outbox``). What comes of that lies in a store of ``fedge_apiserver``, whose revisions are the
edge's own. They begin anew, higher than all before, with each process: a watch that is older hears
410 Gone and lists again, so nobody misses anything.
"""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import structlog

from fedge_apiserver.resources import NAMESPACES, NODES, SECRETS, Resource
from fedge_apiserver.storage import Entry, Log
from fedge_apiserver.store import Store, decode
from fedge_devices import DEVICE_STATUSES, DEVICES, GROUP, VERSION
from fedge_meta.api.catalog import edge_catalog, own_roles
from fedge_meta.api.observing import EVENTS, Observed, Status
from fedge_meta.api.outbox import Outbox
from fedge_objects import Change, JsonObject, NodeName, ObjectKey, Version
from fedge_sealing import NodeSeal, SealError
from fedge_store import ObjectStore

log = structlog.stdlib.get_logger("fedge.meta")

REVISIONS_PER_START: Final = 10**9
HISTORY_EVENTS: Final = 2000
HISTORY_BYTES: Final = 2**20
MOST_REMEMBERED: Final = 4096
EXPECTED_SECONDS: Final = 10.0
_MARK: Final = "api"


class NowhereStorage:
    """Keeps nothing: the store's content comes from elsewhere. Begins at a revision."""

    def __init__(self, revision: int) -> None:
        self._revision = revision

    async def open(self) -> Log:
        """Return an empty log that begins at the revision."""
        return Log((), self._revision, self._revision)

    async def append(self, entries: Sequence[Entry], forget: Sequence[int], compacted: int) -> None:
        """Take note of nothing."""

    async def close(self) -> None:
        """Do nothing."""


class _Expected(NamedTuple):
    """What the cloud has answered of an object, which the node was not given yet.

    Attributes:
        object: it; None: it is removed.
        revision: the cloud's; what the node is given later is newer.
    """

    object: JsonObject | None
    revision: int


class View:
    """The objects of one node, put together."""

    def __init__(
        self,
        *,
        node: NodeName,
        store: ObjectStore,
        seal: NodeSeal,
        observed: Observed,
        outbox: Outbox,
    ) -> None:
        """Prepare; nothing is read yet."""
        self._node = node
        self.catalog = edge_catalog()
        self.updating = asyncio.Lock()
        """Held by whoever looks at objects and then changes them."""
        self._kinds = self.catalog.stored()
        self._given = store
        self._seal = seal
        self._observed = observed
        self._outbox = outbox
        self._dirty: dict[ObjectKey, None] = {}
        self._news = asyncio.Event()
        self._bases: OrderedDict[int, tuple[ObjectKey, int, JsonObject | None]] = OrderedDict()
        self._expected: dict[ObjectKey, _Expected] = {}
        self._are_secrets_open = False
        self._store: Store | None = None

    @property
    def shown(self) -> Store:
        """The store that the API reads."""
        if self._store is None:
            raise RuntimeError("the view was not opened")
        return self._store

    async def open(self) -> None:
        """Read everything, but for Secrets: those wait until somebody may see them.

        Raises:
            UnavailableError: the disk takes nothing now.
        """
        self._observed.changed = self.mark  # what is said meanwhile is looked at once more
        start = await self._given.next_mark(_MARK) * REVISIONS_PER_START
        self._store = Store(
            NowhereStorage(start), history_events=HISTORY_EVENTS, history_bytes=HISTORY_BYTES
        )
        await self._store.open()
        for resource, role in own_roles(self._node):
            await self._show(ObjectKey(resource.storage, "", role["metadata"]["name"]), role)
        kept = set(self._kinds) - {SECRETS.storage}
        for change in await self._given.objects(kept):
            await self.refresh(change.key)
        for key in (*self._observed.events, *self._outbox.keys()):
            await self.refresh(key)

    async def open_secrets(self) -> None:
        """Unseal the node's Secrets, once: somebody who may see some asks for them."""
        if self._are_secrets_open:
            return
        self._are_secrets_open = True
        for change in await self._given.objects({SECRETS.storage}):
            async with self.updating:
                await self.refresh(change.key)

    def mark(self, key: ObjectKey) -> None:
        """Have an object put together anew soon."""
        self._dirty[key] = None
        if key.resource == DEVICES:
            self._dirty[ObjectKey(DEVICE_STATUSES, key.namespace, key.name)] = None
        self._news.set()

    def take(self, change: Change) -> None:
        """Hear that the node was given something."""
        if change.object is None:
            self._observed.forget(change.key)
        self.mark(change.key)

    async def run(self) -> None:
        """Follow what changes, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._dirty:
                key = next(iter(self._dirty))
                del self._dirty[key]
                async with self.updating:
                    await self.refresh(key)

    async def given(self, key: ObjectKey) -> Change | None:
        """Return an object as the cloud gave it, readable; None if there is none.

        Raises:
            SealError: it cannot be unsealed.
        """
        change = await self._given.get(key)
        if change is None or change.object is None:
            return None
        return self._seal.unsealed(change)

    async def version_of(self, key: ObjectKey) -> Version | None:
        """Return in which version the node was given an object; None if it was not."""
        change = await self._given.get(key)
        return None if change is None or change.object is None else change.version

    async def expect(self, key: ObjectKey, obj: JsonObject, revision: int) -> Entry | None:
        """Show an object as the cloud has just said that it is, until it comes; return as what.

        It may never come: not all that a program writes is given to its node. The caller holds
        ``updating``.
        """
        self._expect(key, _Expected(obj, revision))
        entry = await self.refresh(key)
        if entry is not None and entry.revision not in self._bases:
            self._bases[entry.revision] = (key, revision, obj)
        return entry

    async def hide(self, key: ObjectKey) -> None:
        """Show an object no longer that the cloud has just removed; word of that comes later."""
        held = await self.version_of(key)
        async with self.updating:
            self._expect(key, _Expected(None, 0 if held is None else held.revision + 1))
            await self.refresh(key)

    def _expect(self, key: ObjectKey, expected: "_Expected") -> None:
        self._expected[key] = expected

        def give_up() -> None:
            if self._expected.get(key) is expected:
                del self._expected[key]
                self.mark(key)

        asyncio.get_running_loop().call_later(EXPECTED_SECONDS, give_up)

    def base_of(self, revision: int) -> tuple[ObjectKey, int, JsonObject | None] | None:
        """Return what of the cloud's a revision of the edge's showed.

        Returns:
            Key, the cloud's revision, and the object as given; None if that is not known any more.
        """
        return self._bases.get(revision)

    async def refresh(self, key: ObjectKey) -> Entry | None:
        """Put an object together as it is now; return what is shown of it, if anything is.

        The caller holds ``updating``.
        """
        if key.resource not in self._kinds or (
            key.resource == SECRETS.storage and not self._are_secrets_open
        ):
            return None
        change = None
        if key.resource == DEVICE_STATUSES:
            value = await self._device_status(key)
        elif key.resource == EVENTS and key in self._observed.events:
            value = _event(self._observed.events[key])
        else:
            try:
                change = await self.given(key)
            except SealError as exc:
                log.warning("secret_not_shown", object=str(key), reason=str(exc))
            value = None if change is None else change.object
            if (expected := self._expected.get(key)) is not None:
                if change is None or change.version.revision < expected.revision:
                    value, change = expected.object, None
                else:
                    del self._expected[key]
        if value is not None and (said := self._observed.statuses.get(key)) is not None:
            value = _with_status(key, value, said)
        if value is not None and key.resource == NAMESPACES.storage:
            is_going = value["metadata"].get("deletionTimestamp")
            value = {**value, "status": {"phase": "Terminating" if is_going else "Active"}}
        value = self._outbox.applied_to(key, value)
        entry = await self._show(key, value)
        if entry is not None and change is not None:
            self._remember(entry, change)
        return entry

    def _remember(self, entry: Entry, change: Change) -> None:
        self._bases[entry.revision] = (change.key, change.version.revision, change.object)
        while len(self._bases) > MOST_REMEMBERED:
            self._bases.popitem(last=False)

    async def _show(self, key: ObjectKey, value: JsonObject | None) -> Entry | None:
        store = self.shown
        names = (key.resource, key.namespace, key.name)
        held = store.head(*names)
        if value is None:
            if held is not None:
                await store.delete(*names, decode(held.body))
            return None
        resource = self._kinds[key.resource]
        value = _complete(resource, key, value)
        if held is not None:
            before = decode(held.body)
            value["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            if before == value:
                return held
        return await store.put(*names, value)

    async def _device_status(self, key: ObjectKey) -> JsonObject | None:
        """Return what a device's status is in the cloud: an object of the device's name."""
        about = ObjectKey(DEVICES, key.namespace, key.name)
        said, device = self._observed.statuses.get(about), await self._given.get(about)
        if said is None or device is None or device.object is None:
            return None
        owner = device.object["metadata"]
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "DeviceStatus",
            "metadata": {
                "namespace": key.namespace,
                "name": key.name,
                "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{owner.get('uid')}/status")),
                "creationTimestamp": owner.get("creationTimestamp"),
            },
            "status": said.status,
        }


def _complete(resource: Resource, key: ObjectKey, value: JsonObject) -> JsonObject:
    """Return an object with all that any object has, its metadata a copy."""
    metadata: dict[str, Any] = {**value.get("metadata", {}), "name": key.name}
    if resource.namespaced:
        metadata["namespace"] = key.namespace
    if not metadata.get("uid"):
        metadata["uid"] = str(uuid.uuid5(uuid.NAMESPACE_OID, str(key)))
    metadata.setdefault("creationTimestamp", None)
    head = {"apiVersion": resource.api_version, "kind": resource.kind}
    return {**head, **{k: v for k, v in value.items() if k not in head}, "metadata": metadata}


def _with_status(key: ObjectKey, value: JsonObject, said: Status) -> JsonObject:
    """Return an object with what the node itself says of it.

    Conditions that others set (a readiness gate's) stay beside the node's own.
    """
    if key.resource == DEVICES or (said.uid and said.uid != value["metadata"].get("uid")):
        return value
    told: dict[str, Any] = dict(value.get("status") or {})
    own = said.status.get("conditions") or []
    names = {each.get("type") for each in own}
    others = [each for each in told.get("conditions") or () if each.get("type") not in names]
    status = {**told, **said.status}
    if own or others:
        status["conditions"] = [*others, *own]
    if key.resource == NODES.storage and said.labels:
        labels = {**(value["metadata"].get("labels") or {}), **said.labels}
        value = {**value, "metadata": {**value["metadata"], "labels": labels}}
    return {**value, "status": status}


def _event(event: JsonObject) -> JsonObject:
    metadata = event["metadata"]
    made = metadata.get("creationTimestamp") or event.get("firstTimestamp")
    return {**event, "metadata": {**metadata, "creationTimestamp": made}}
