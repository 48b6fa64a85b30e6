"""What was written here and the cloud has not taken yet: on the disk, in order, visible at once.

A write is acknowledged when it is in ``meta.db``. Of one object the writes go up in their order;
what the same author writes to an object whose last write has not left yet takes that one's place,
for only the states before and after count: a gateway that is away for weeks keeps no history.
"""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog

from fedge_fabric.writes import Author, ObjectChange
from fedge_objects import JsonObject, ObjectKey, merge_changes
from fedge_sealing import CONFIDENTIAL, NodeSeal, SealError, is_sealed, seal
from fedge_store import ObjectStore, WaitingWrite

log = structlog.stdlib.get_logger("fedge.meta")

PENDING: Final = "fedge.io/pending"
"""Annotation of an object that shows something which the cloud has not taken yet: since when."""


class FullError(Exception):
    """So much waits that nothing more is taken; nothing was changed."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A write as it lies on the disk."""

    at: float
    author: Author
    change: ObjectChange


@dataclass(slots=True)
class Pending:
    """A write that waits.

    Attributes:
        number: its place in the order.
        id: by which a repeat is recognised.
        kept: what is written.
        has_left: it may be with the cloud already, so it must not become another.
    """

    number: int
    id: str
    kept: Kept
    has_left: bool = False


class Outbox:
    """The writes of one node that wait."""

    def __init__(
        self,
        store: ObjectStore,
        seal: NodeSeal,
        *,
        most_bytes: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            store: the node's.
            seal: by which what is confidential is sealed.
            most_bytes: of all writes together, as they are stored.
            now: seconds since the epoch.
        """
        self._store = store
        self._seal = seal
        self._most_bytes = most_bytes
        self._now = now
        self._waiting: dict[int, Pending] = {}
        self._changing = asyncio.Lock()
        self.added: Callable[[], None] | None = None
        """Called when there is one more."""

    async def read(self) -> None:
        """Take what a process before this one has left; that may be with the cloud already."""
        for row in await self._store.writes():
            try:
                kept = self._opened(row)
            except (SealError, msgspec.MsgspecError) as exc:
                # nobody can read it; it stays where it is, for a key may come back
                log.error("waiting_write_unreadable", object=str(row.key), reason=str(exc))  # noqa: TRY400
                continue
            self._waiting[row.number] = Pending(row.number, row.id, kept, has_left=True)

    def __len__(self) -> int:
        return len(self._waiting)

    async def leave(self) -> Pending | None:
        """Return the oldest that waits, which from now on may be with the cloud."""
        async with self._changing:
            if not self._waiting:
                return None
            oldest = self._waiting[min(self._waiting)]
            oldest.has_left = True
            return oldest

    def keys(self) -> set[ObjectKey]:
        """Return the objects that writes wait for."""
        return {each.kept.change.key for each in self._waiting.values()}

    def concerns(self, key: ObjectKey) -> bool:
        """Whether a write to an object waits."""
        return next(self._of(key), None) is not None

    def applied_to(self, key: ObjectKey, value: JsonObject | None) -> JsonObject | None:
        """Return an object as it is with what waits; None if there is none then."""
        since = 0.0
        for each in self._of(key):
            change = each.kept.change
            since = since or each.kept.at
            if change.wanted is None:
                value = None
            elif value is None or change.base is None:
                value = change.wanted
            else:
                value = merge_changes(change.base, change.wanted, value, prefer_ours=True).value
        if value is None or not since:
            return value
        metadata = dict(value["metadata"])
        when = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata["annotations"] = {**(metadata.get("annotations") or {}), PENDING: when}
        return {**value, "metadata": metadata}

    async def accept(self, author: Author, change: ObjectChange) -> None:
        """Take a write; on return it outlives a power cut.

        Raises:
            FullError: too much waits.
            UnavailableError: the disk takes nothing now.
        """
        async with self._changing:
            await self._accept(author, change)
        if self.added is not None:
            self.added()

    async def _accept(self, author: Author, change: ObjectChange) -> None:
        last = next(reversed(list(self._of(change.key))), None)
        kept = Kept(at=self._now(), author=author, change=change)
        if last is not None and not last.has_left and last.kept.author == author:
            together = _together(last.kept, kept)
            await self._replace(last, together)
            return
        pending = Pending(0, uuid.uuid4().hex, kept)
        pending.number = await self._store.add_write(
            self._row(pending), most_bytes=self._most_bytes
        )
        if not pending.number:
            raise FullError(
                f"{len(self._waiting)} writes wait for the cloud already, and no more than"
                f" {self._most_bytes} bytes of them are kept"
            )
        self._waiting[pending.number] = pending

    async def drop(self, pending: Pending) -> None:
        """Drop a write: what became of it is known and stored."""
        await self._store.forget_write(pending.number)
        self._waiting.pop(pending.number, None)

    async def _replace(self, last: Pending, together: Kept | None) -> None:
        if together is None:
            await self.drop(last)
            return
        row = self._row(dataclasses.replace(last, kept=together))
        if not await self._store.replace_write(row, most_bytes=self._most_bytes):
            raise FullError(f"no more than {self._most_bytes} bytes of waiting writes are kept")
        last.kept = together

    def _of(self, key: ObjectKey) -> Iterator[Pending]:
        return (each for _, each in sorted(self._waiting.items()) if each.kept.change.key == key)

    def _row(self, pending: Pending) -> WaitingWrite:
        key = pending.kept.change.key
        body = msgspec.json.encode(pending.kept)
        if key.resource in CONFIDENTIAL:
            body = msgspec.json.encode(seal(body, self._seal.key.public, pending.id))
        return WaitingWrite(number=pending.number, id=pending.id, key=key, body=body)

    def _opened(self, row: WaitingWrite) -> Kept:
        body = row.body
        if row.key.resource in CONFIDENTIAL:
            sealed = msgspec.json.decode(body)
            if not is_sealed(sealed):
                raise SealError(f"the write {row.id} is not sealed")
            body = self._seal.key.unseal(sealed, row.id)
        return msgspec.json.decode(body, type=Kept)


def _together(before: Kept, after: Kept) -> Kept | None:
    """Return what two writes of one author to one object come to; None if to nothing."""
    first, second = before.change, after.change
    if first.base is None and second.wanted is None:
        return None  # made and removed again, and nobody else has seen it
    verb = "create" if first.base is None else second.verb
    change = dataclasses.replace(second, verb=verb, base=first.base)
    if first.wanted is None and second.wanted is not None:
        # removed and made again: for the cloud it is what became of the one before
        change = dataclasses.replace(change, verb="update")
    return msgspec.structs.replace(before, change=change)
