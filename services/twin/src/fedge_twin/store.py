"""Twins in SQLite: one row per device, one per property.

Every commit reaches the disk before it returns (``synchronous=FULL``), so what was acknowledged
after it survives a power cut. What the cloud has been told is not kept: all is told again at start,
which spares the flash a second write per report.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import aiosqlite
import msgspec

from fedge_fabric import UnavailableError
from fedge_objects import ObjectKey, Version
from fedge_twin.device import DEVICE_MODELS, DEVICES, Device, Property, Side

MIGRATIONS: Final = (
    """
CREATE TABLE file (
    incarnation INTEGER NOT NULL
);
CREATE TABLE devices (
    namespace   TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    uid         TEXT    NOT NULL,
    decided     INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    description TEXT    NOT NULL,
    model       TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    last_online TEXT    NOT NULL,
    sequence    INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
) WITHOUT ROWID;
CREATE TABLE properties (
    namespace      TEXT    NOT NULL,
    device         TEXT    NOT NULL,
    name           TEXT    NOT NULL,
    type           TEXT    NOT NULL,
    optional       INTEGER NOT NULL,
    in_manifest    INTEGER NOT NULL,
    wish           BLOB,
    desired        BLOB,
    desired_cloud  INTEGER NOT NULL,
    desired_edge   INTEGER NOT NULL,
    reported       BLOB,
    reported_cloud INTEGER NOT NULL,
    reported_edge  INTEGER NOT NULL,
    PRIMARY KEY (namespace, device, name)
) WITHOUT ROWID;
""",
)
"""Step ``n`` brings a file of version ``n`` to ``n + 1``. A side is JSON ``[value, metadata]``."""

_DEVICE_COLUMNS = (
    "namespace, name, uid, decided, revision, description, model, state, last_online, sequence"
)
_PROPERTY_COLUMNS = (
    "name, type, optional, in_manifest, wish, desired, desired_cloud, desired_edge,"
    " reported, reported_cloud, reported_edge"
)


class StoreError(Exception):
    """The file cannot be used; the message names it and the remedy."""


class TwinStore:
    """The file of twins. One process opens it; several tasks of its loop may use it."""

    def __init__(self, connection: aiosqlite.Connection, incarnation: int) -> None:
        self._connection = connection
        self._changing = asyncio.Lock()
        self.incarnation = incarnation
        """When this file was made, in ms: what it tells is newer than what an earlier one told."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path) -> AsyncIterator[Self]:
        """Open the file at ``path``, making it if there is none.

        Raises:
            StoreError: it was written by a newer fedge.
        """
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        async with aiosqlite.connect(path, isolation_level=None) as connection:
            await connection.execute("PRAGMA journal_mode=WAL")
            await connection.execute("PRAGMA synchronous=FULL")
            await connection.execute("PRAGMA busy_timeout=5000")
            await _migrate(connection, path)
            [[incarnation]] = await connection.execute_fetchall("SELECT incarnation FROM file")
            yield cls(connection, incarnation)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Commit what is put and removed inside, or take all of it back; one at a time.

        Raises:
            UnavailableError: the file takes nothing now, e.g. because the disk is full.
        """
        async with self._changing:
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                yield
                await self._connection.commit()
            except sqlite3.OperationalError as exc:
                await asyncio.shield(self._connection.rollback())
                raise UnavailableError(f"the twins cannot be stored now: {exc}") from exc
            except BaseException:
                await asyncio.shield(self._connection.rollback())
                raise

    async def read(self, key: ObjectKey) -> Device | None:
        """Return a device as it was last committed; None if it is not of this node.

        Raises:
            UnavailableError: the file cannot be read now.
        """
        async with self._changing:
            try:
                return await self.get(key)
            except sqlite3.OperationalError as exc:
                raise UnavailableError(f"the twins cannot be read now: {exc}") from exc

    async def get(self, key: ObjectKey) -> Device | None:
        """Return a device, for use inside ``changing``; None if it is not of this node."""
        rows = list(
            await self._connection.execute_fetchall(
                f"SELECT {_DEVICE_COLUMNS} FROM devices WHERE namespace = ? AND name = ?",  # noqa: S608 - constants
                (key.namespace, key.name),
            )
        )
        if not rows:
            return None
        properties = await self._connection.execute_fetchall(
            f"SELECT {_PROPERTY_COLUMNS} FROM properties WHERE namespace = ? AND device = ?",  # noqa: S608
            (key.namespace, key.name),
        )
        return _device(tuple(rows[0]), [_property(tuple(row)) for row in properties])

    async def keys(self) -> list[ObjectKey]:
        """Return the keys of all devices."""
        rows = await self._connection.execute_fetchall("SELECT namespace, name FROM devices")
        return [ObjectKey(DEVICES, namespace, name) for namespace, name in rows]

    async def put(self, device: Device, before: Device | None) -> None:
        """Write a device over what it was before; of its properties those that changed."""
        key = device.key
        await self._connection.execute(
            "INSERT OR REPLACE INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.namespace,
                key.name,
                device.uid,
                *device.version,
                device.description,
                device.model.name if device.model else "",
                device.state,
                device.last_online,
                device.sequence,
            ),
        )
        old = before.properties if before else {}
        changed = [each for name, each in device.properties.items() if old.get(name) != each]
        if changed:
            await self._connection.executemany(
                "INSERT OR REPLACE INTO properties VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(key.namespace, key.name, *_row(each)) for each in changed],
            )
        gone = old.keys() - device.properties.keys()
        if gone:
            await self._connection.executemany(
                "DELETE FROM properties WHERE namespace = ? AND device = ? AND name = ?",
                [(key.namespace, key.name, name) for name in gone],
            )

    async def remove(self, key: ObjectKey) -> None:
        """Remove a device."""
        where = (key.namespace, key.name)
        await self._connection.execute(
            "DELETE FROM properties WHERE namespace = ? AND device = ?", where
        )
        await self._connection.execute(
            "DELETE FROM devices WHERE namespace = ? AND name = ?", where
        )


async def _migrate(connection: aiosqlite.Connection, path: Path) -> None:
    [[found]] = await connection.execute_fetchall("PRAGMA user_version")
    if found > len(MIGRATIONS):
        raise StoreError(
            f"the twins at {path} have version {found}, this fedge knows {len(MIGRATIONS)}: "
            "run the newer fedge again, or move the file away and let devices report anew"
        )
    for version, script in enumerate(MIGRATIONS[found:], start=found + 1):
        if version == 1:
            script += f"INSERT INTO file VALUES ({time.time_ns() // 1_000_000});"  # noqa: PLW2901, S608
        await connection.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {version}; COMMIT;"
        )


def _device(row: tuple[Any, ...], properties: list[Property]) -> Device:
    namespace, name, uid, decided, revision, description, model, state, last_online, sequence = row
    return Device(
        key=ObjectKey(DEVICES, namespace, name),
        uid=uid,
        version=Version(decided, revision),
        description=description,
        model=ObjectKey(DEVICE_MODELS, namespace, model) if model else None,
        state=state,
        last_online=last_online,
        sequence=sequence,
        properties={each.name: each for each in properties},
    )


def _property(row: tuple[Any, ...]) -> Property:
    name, type_, optional, in_manifest, wish, *sides = row
    desired, desired_cloud, desired_edge, reported, reported_cloud, reported_edge = sides
    return Property(
        name=name,
        type=type_,
        optional=bool(optional),
        in_manifest=bool(in_manifest),
        wish=None if wish is None else msgspec.json.decode(wish),
        desired=_side(desired, desired_cloud, desired_edge),
        reported=_side(reported, reported_cloud, reported_edge),
    )


def _row(each: Property) -> tuple[Any, ...]:
    return (
        each.name,
        each.type,
        each.optional,
        each.in_manifest,
        None if each.wish is None else msgspec.json.encode(each.wish),
        *_side_columns(each.desired),
        *_side_columns(each.reported),
    )


def _side(body: bytes | None, cloud: int, edge: int) -> Side | None:
    if body is None:
        return None
    value, metadata = msgspec.json.decode(body)
    return Side(value=value, metadata=metadata, cloud=cloud, edge=edge)


def _side_columns(side: Side | None) -> tuple[bytes | None, int, int]:
    if side is None:
        return None, 0, 0
    return msgspec.json.encode([side.value, side.metadata]), side.cloud, side.edge
