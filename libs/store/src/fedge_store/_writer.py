"""Writing the store: an object and the messages that follow from it, in one transaction.

Every commit reaches the disk before it returns (``synchronous=FULL``): what is acknowledged after
it survives a power cut. Nothing is written when a change brings nothing new.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiosqlite
import msgspec
import structlog

import fedge_tracing as tracing
from fedge_fabric import Envelope, UnavailableError
from fedge_objects import Change, ObjectKey, Version, split_trace
from fedge_sealing import make_private
from fedge_store._connecting import connected
from fedge_store._damage import Damage, is_damage, set_aside_if_damaged
from fedge_store._schema import SCHEMA, SCHEMA_VERSION, SINCE_1_1, StoreError, fits, minor_of
from fedge_tracing import names

log = structlog.stdlib.get_logger("fedge.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message to be published, and where."""

    exchange: str
    routing_key: str
    envelope: Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRow:
    """A message that waits in the outbox, with its place in the order."""

    id: int
    message: Outgoing


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingWrite:
    """A write of a program at the edge, of which the cloud has said nothing yet.

    Attributes:
        number: its place in the order; 0 for one that is not stored yet.
        id: by which a repeat of it is recognised.
        key: the object that is written.
        body: what is written, in a form that the writer knows; sealed if it is confidential.
    """

    number: int = 0
    id: str
    key: ObjectKey
    body: bytes


class ObjectStore:
    """The one writer of the file. Safe to use from several tasks of one event loop."""

    def __init__(self, connection: aiosqlite.Connection, damage: Damage) -> None:
        self._connection = connection
        self.damage = damage
        self._writing = asyncio.Lock()
        self._added = asyncio.Event()
        self._added.set()

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path) -> AsyncIterator[Self]:
        """Open the store at ``path``, making it if there is none; a damaged one is set aside.

        Raises:
            StoreError: the file was written by a newer fedge.
        """
        await asyncio.to_thread(set_aside_if_damaged, path)
        await asyncio.to_thread(make_private, path)
        async with connected(aiosqlite.connect(path, isolation_level=None)) as connection:
            await connection.execute("PRAGMA journal_mode=WAL")
            await connection.execute("PRAGMA synchronous=FULL")
            await connection.execute("PRAGMA busy_timeout=5000")
            # what is replaced is overwritten: it may have been a Secret that was not sealed
            await connection.execute("PRAGMA secure_delete=ON")
            await _prepare(connection, path)
            yield cls(connection, Damage(path))

    async def apply(self, change: Change, outgoing: Sequence[Outgoing]) -> bool:
        """Store ``change`` with the messages that follow, if it is newer than what is there.

        Returns:
            Whether it was newer. If not, nothing is stored, the messages neither.
        """
        body = None if change.object is None else msgspec.json.encode(change.object)
        with _traced("put", change.key):
            return await self._put(change, body, outgoing)

    async def _put(self, change: Change, body: bytes | None, outgoing: Sequence[Outgoing]) -> bool:
        key = change.key
        async with self._transaction() as connection:
            cursor = await connection.execute(
                "INSERT INTO objects"
                " (resource, namespace, name, decided, revision, body, traceparent)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET decided = excluded.decided,"
                " revision = excluded.revision, body = excluded.body,"
                " traceparent = excluded.traceparent"
                " WHERE (excluded.decided, excluded.revision) > (decided, revision)",
                (key.resource, key.namespace, key.name, *change.version, body, change.trace),
            )
            if cursor.rowcount < 1:
                return False
            await self._enqueue(connection, outgoing)
        self._added.set()
        return True

    async def enqueue(self, outgoing: Sequence[Outgoing]) -> None:
        """Store messages that follow from no change."""
        async with self._transaction() as connection:
            await self._enqueue(connection, outgoing)
        self._added.set()

    async def get(self, key: ObjectKey) -> Change | None:
        """Return the newest version of an object, or its tombstone; None if it was never here."""
        rows = list(
            await self._rows(
                "SELECT decided, revision, body, traceparent FROM objects"
                " WHERE resource = ? AND namespace = ? AND name = ?",
                (key.resource, key.namespace, key.name),
            )
        )
        if not rows:
            return None
        decided, revision, body, trace = rows[0]
        traceparent, since = split_trace(trace)
        return Change(
            key=key,
            version=Version(decided, revision),
            object=None if body is None else msgspec.json.decode(body),
            traceparent=traceparent,
            since=since,
        )

    async def objects(self, resources: Collection[str]) -> list[Change]:
        """Return all objects of these resources that are not gone."""
        rows = await self._rows(
            "SELECT resource, namespace, name, decided, revision, body, traceparent FROM objects"
            " WHERE body IS NOT NULL AND resource IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(sorted(resources)).decode(),),
        )
        return [
            Change(
                key=ObjectKey(resource, namespace, name),
                version=Version(decided, revision),
                object=msgspec.json.decode(body),
                traceparent=split_trace(trace)[0],
                since=split_trace(trace)[1],
            )
            for resource, namespace, name, decided, revision, body, trace in rows
        ]

    async def rewrite(self, changes: Collection[Change], forgotten: Collection[ObjectKey]) -> None:
        """Replace objects by others of the same version, forget some, and leave no trace of them.

        What is forgotten was never here: a comparison with the cloud brings it back.
        """
        async with self._transaction() as connection:
            await connection.executemany(
                "UPDATE objects SET body = ?"
                " WHERE (resource, namespace, name, decided, revision) = (?, ?, ?, ?, ?)",
                [
                    (msgspec.json.encode(each.object), *_names(each.key), *each.version)
                    for each in changes
                ],
            )
            await connection.executemany(
                "DELETE FROM objects WHERE (resource, namespace, name) = (?, ?, ?)",
                [_names(key) for key in forgotten],
            )
        await self._rows("PRAGMA wal_checkpoint(TRUNCATE)")

    async def versions(self) -> dict[ObjectKey, Version]:
        """Return the version of everything that the node holds, tombstones included."""
        rows = await self._rows("SELECT resource, namespace, name, decided, revision FROM objects")
        return {
            ObjectKey(resource, namespace, name): Version(decided, revision)
            for resource, namespace, name, decided, revision in rows
        }

    async def waiting(self, limit: int) -> list[OutgoingRow]:
        """Return the oldest messages of the outbox; waits until there is one."""
        while True:
            await self._added.wait()
            self._added.clear()
            rows = await self._rows(
                "SELECT id, exchange, routing_key, envelope FROM outbox ORDER BY id LIMIT ?",
                (limit,),
            )
            if rows:
                self._added.set()
                return [_row(*row) for row in rows]

    async def forget_until(self, last_id: int) -> None:
        """Drop the messages up to ``last_id``: the broker has confirmed them."""
        async with self._transaction() as connection:
            await connection.execute("DELETE FROM outbox WHERE id <= ?", (last_id,))

    async def next_mark(self, name: str) -> int:
        """Count a mark up and return it: no number is returned twice, whatever happens."""
        async with self._transaction() as connection:
            rows = list(
                await connection.execute_fetchall(
                    "INSERT INTO marks VALUES (?, 1)"
                    " ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value",
                    (name,),
                )
            )
        return int(rows[0][0])

    async def add_write(self, write: WaitingWrite, *, most_bytes: int) -> int:
        """Store a write behind those that wait.

        Returns:
            Its number; 0 if all of them together would have more than ``most_bytes``.
        """
        async with self._transaction() as connection:
            [row] = await connection.execute_fetchall(
                "SELECT coalesce(sum(length(body)), 0) FROM writes"
            )
            if row[0] + len(write.body) > most_bytes:
                return 0
            cursor = await connection.execute(
                "INSERT INTO writes (id, resource, namespace, name, body) VALUES (?, ?, ?, ?, ?)",
                (write.id, *_names(write.key), write.body),
            )
            return cursor.lastrowid or 0

    async def replace_write(self, write: WaitingWrite, *, most_bytes: int) -> bool:
        """Put another body in a waiting write's place.

        Returns:
            Whether that was done; not if all of them together would have more than ``most_bytes``.
        """
        async with self._transaction() as connection:
            [row] = await connection.execute_fetchall(
                "SELECT coalesce(sum(length(body)), 0) FROM writes WHERE number <> ?",
                (write.number,),
            )
            if row[0] + len(write.body) > most_bytes:
                return False
            await connection.execute(
                "UPDATE writes SET body = ? WHERE number = ?", (write.body, write.number)
            )
        return True

    async def writes(self) -> list[WaitingWrite]:
        """Return the writes that wait, in order."""
        rows = await self._connection.execute_fetchall(
            "SELECT number, id, resource, namespace, name, body FROM writes ORDER BY number"
        )
        return [
            WaitingWrite(number=number, id=write_id, key=ObjectKey(*names), body=body)
            for number, write_id, *names, body in rows
        ]

    async def forget_write(self, number: int) -> None:
        """Drop a write: the cloud has answered, and what follows from that is stored."""
        async with self._transaction() as connection:
            await connection.execute("DELETE FROM writes WHERE number = ?", (number,))

    async def _enqueue(
        self, connection: aiosqlite.Connection, outgoing: Sequence[Outgoing]
    ) -> None:
        await connection.executemany(
            "INSERT INTO outbox (exchange, routing_key, envelope) VALUES (?, ?, ?)",
            [(m.exchange, m.routing_key, msgspec.msgpack.encode(m.envelope)) for m in outgoing],
        )

    async def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return what a statement finds.

        Raises:
            UnavailableError: the file is damaged.
        """
        try:
            return list(await self._connection.execute_fetchall(statement, values))
        except sqlite3.DatabaseError as exc:
            if not is_damage(exc):
                raise
            self.damage.note(exc)
            raise UnavailableError(f"the store cannot be read: {exc}") from exc

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Commit, or take everything back, a cancelled caller's included.

        Raises:
            UnavailableError: the file takes nothing now, e.g. because the disk is full.
        """
        async with self._writing:
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                await self._connection.commit()
            except sqlite3.DatabaseError as exc:
                await asyncio.shield(self._roll_back())
                if not (is_damage(exc) or isinstance(exc, sqlite3.OperationalError)):
                    raise
                self.damage.note(exc)
                raise UnavailableError(f"the store takes nothing now: {exc}") from exc
            except BaseException:
                await asyncio.shield(self._roll_back())
                raise

    async def _roll_back(self) -> None:
        try:
            await self._connection.rollback()
        except sqlite3.DatabaseError as exc:  # of a damaged file there may be nothing to take back
            log.warning("not_rolled_back", reason=str(exc))


def _traced(operation: str, key: ObjectKey) -> tracing.Spanning:
    """Return the span of a call.

    https://opentelemetry.io/docs/specs/semconv/db/sqlite/
    """
    return tracing.span(
        f"{operation} objects",
        kind=tracing.SpanKind.CLIENT,
        attributes={
            names.DB_SYSTEM_NAME: "sqlite",
            names.DB_OPERATION_NAME: operation,
            names.DB_COLLECTION_NAME: "objects",
            names.OBJECT: str(key),
        },
    )


def _names(key: ObjectKey) -> tuple[str, str, str]:
    return key.resource, key.namespace, key.name


def _row(row_id: int, exchange: str, routing_key: str, envelope: bytes) -> OutgoingRow:
    return OutgoingRow(
        id=row_id,
        message=Outgoing(
            exchange=exchange,
            routing_key=routing_key,
            envelope=msgspec.msgpack.decode(envelope, type=Envelope),
        ),
    )


async def _prepare(connection: aiosqlite.Connection, path: Path) -> None:
    rows = list(await connection.execute_fetchall("PRAGMA user_version"))
    found: int = rows[0][0]
    if not fits(found, SCHEMA_VERSION):
        raise StoreError(
            f"the store at {path} has version {found}, this fedge knows {SCHEMA_VERSION}: "
            "run the newer fedge again, or move the file away and let the cloud fill a new one"
        )
    if found and minor_of(found) >= minor_of(SCHEMA_VERSION):
        return
    first = "" if found else SCHEMA
    await connection.executescript(
        f"BEGIN IMMEDIATE; {first} {SINCE_1_1} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )
