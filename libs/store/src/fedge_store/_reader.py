"""Reading the store beside its writer."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import aiosqlite
import msgspec

from fedge_objects import Change, ObjectKey, Version, split_trace
from fedge_store._connecting import connected
from fedge_store._damage import is_damage


class ObjectReader:
    """A read-only view; it never blocks the writer and is never blocked by it (WAL)."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path) -> AsyncIterator[Self]:
        """Open the store at ``path`` for reading.

        Raises:
            FileNotFoundError: there is no store yet, because this node was never given anything,
                or because it is damaged: its writer begins another.
        """
        if not await asyncio.to_thread(path.exists):
            raise FileNotFoundError(f"no store at {path}")
        try:
            async with connected(aiosqlite.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                [row] = await connection.execute_fetchall("PRAGMA user_version")
                if row[0] == 0:
                    raise FileNotFoundError(f"the store at {path} is being made")
                yield cls(connection)
        except sqlite3.DatabaseError as exc:
            if not is_damage(exc):
                raise
            raise FileNotFoundError(f"the store at {path} is damaged: {exc}") from exc

    async def list(self, resource: str, *, with_tombstones: bool = False) -> list[Change]:
        """Return the objects of ``resource`` that the node should have.

        Args:
            resource: as in a key.
            with_tombstones: those too that are gone.
        """
        rows = await self._connection.execute_fetchall(
            "SELECT namespace, name, decided, revision, body, traceparent FROM objects"
            " WHERE resource = ? AND (? OR body IS NOT NULL)",
            (resource, with_tombstones),
        )
        return [
            Change(
                key=ObjectKey(resource, namespace, name),
                version=Version(decided, revision),
                object=None if body is None else msgspec.json.decode(body),
                traceparent=split_trace(trace)[0],
                since=split_trace(trace)[1],
            )
            for namespace, name, decided, revision, body, trace in rows
        ]

    async def is_known(self, key: ObjectKey) -> bool:
        """Whether the store holds ``key`` at all, be it as a tombstone."""
        rows = await self._connection.execute_fetchall(
            "SELECT 1 FROM objects WHERE resource = ? AND namespace = ? AND name = ?",
            (key.resource, key.namespace, key.name),
        )
        return bool(list(rows))
