"""Twins in SQLite, and in memory as they were last committed.

Every commit reaches the disk before it returns (``synchronous=FULL``), so what was acknowledged
after it survives a power cut. What the cloud has been told is not kept: all is told again at start,
which spares the flash a second write per report. A report that says again what is known costs no
write at all.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import aiosqlite
import msgspec
import structlog

from fedge_fabric import UnavailableError
from fedge_objects import JsonObject, ObjectKey, Version
from fedge_sealing import make_private
from fedge_store import Damage, fits, is_damage, major_of, set_aside_if_damaged
from fedge_twin.device import DEVICE_MODELS, DEVICES, By, Device, Property, Side, Wish

log = structlog.stdlib.get_logger("fedge.twin")

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
    """
CREATE TABLE twins (
    namespace TEXT NOT NULL,
    device    TEXT NOT NULL,
    property  TEXT NOT NULL,
    body      BLOB NOT NULL,
    PRIMARY KEY (namespace, device, property)
) WITHOUT ROWID;
CREATE TABLE history (
    namespace TEXT    NOT NULL,
    device    TEXT    NOT NULL,
    property  TEXT    NOT NULL,
    slot      INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    body      BLOB    NOT NULL,
    PRIMARY KEY (namespace, device, property, slot)
) WITHOUT ROWID;
ALTER TABLE devices DROP COLUMN sequence;
""",
)
"""Step ``n`` brings a file of major version ``n`` to the next; what SQL cannot say is in ``_move``.
Of minor versions ``fedge_store`` tells."""

HISTORY: Final = 20
"""So many of its last values are kept of each property, desired and reported together."""
MAX_REMEMBERED_BYTES: Final = 1024
"""A larger value has a place in the history, but is not repeated there."""

_MOVED_IN: Final = 2
_DEVICE_COLUMNS = "namespace, name, uid, decided, revision, description, model, state, last_online"

_PUT_DEVICE = (
    f"INSERT OR REPLACE INTO devices ({_DEVICE_COLUMNS})"  # noqa: S608 - a constant
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_TWIN = "INSERT OR REPLACE INTO twins (namespace, device, property, body) VALUES (?, ?, ?, ?)"
_PUT_HISTORY = (
    "INSERT OR REPLACE INTO history (namespace, device, property, slot, number, body)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)


class StoreError(Exception):
    """The file cannot be used; the message names it and the remedy."""


@dataclass(slots=True)
class Draft:
    """What is to become of the twins, before it is committed."""

    committed: Mapping[ObjectKey, Device]
    changed: dict[ObjectKey, Device | None] = field(default_factory=dict)
    replaced: set[ObjectKey] = field(default_factory=set)
    history: dict[ObjectKey, list[tuple[str, int, bytes]]] = field(default_factory=dict)

    def get(self, key: ObjectKey) -> Device | None:
        """Return a device as it is here; None if it is not of this node."""
        return self.changed[key] if key in self.changed else self.committed.get(key)

    def put(self, device: Device) -> None:
        """Set a device."""
        before = self.get(device.key)
        if before is not None and before.uid != device.uid:
            self.remove(device.key)  # what its namesake had is none of its own
            before = None
        known = before.properties if before else {}
        after = self.changed[device.key] = _counted(device, known)
        history = self.history.setdefault(device.key, [])
        for name, each in after.properties.items():
            if each is not known.get(name):
                history += _entries(known.get(name), each)

    def remove(self, key: ObjectKey) -> None:
        """Remove a device."""
        self.changed[key] = None
        self.replaced.add(key)
        self.history.pop(key, None)


class TwinStore:
    """The file of twins. One process opens it; several tasks of its loop may use it."""

    def __init__(self, connection: aiosqlite.Connection, incarnation: int, damage: Damage) -> None:
        self._connection = connection
        self.damage = damage
        self._changing = asyncio.Lock()
        self._devices: dict[ObjectKey, Device] = {}
        self.incarnation = incarnation
        """When the file was opened, in ms: what is told is newer than what was told before."""

    @property
    def devices(self) -> Mapping[ObjectKey, Device]:
        """All devices, as they were last committed."""
        return self._devices

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path) -> AsyncIterator[Self]:
        """Open the file at ``path``, making it if there is none; a damaged one is set aside.

        Raises:
            StoreError: it was written by a newer fedge.
        """
        await asyncio.to_thread(set_aside_if_damaged, path)
        await asyncio.to_thread(make_private, path)
        async with aiosqlite.connect(path, isolation_level=None) as connection:
            await connection.execute("PRAGMA journal_mode=WAL")
            await connection.execute("PRAGMA synchronous=FULL")
            await connection.execute("PRAGMA busy_timeout=5000")
            await _migrate(connection, path)
            store = cls(connection, await _next_incarnation(connection), Damage(path))
            await store._load()
            yield store

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[Draft]:
        """Commit what is put and removed inside, or take all of it back; one at a time.

        Raises:
            UnavailableError: the file takes nothing now, e.g. because the disk is full.
        """
        async with self._changing:
            draft = Draft(self._devices)
            yield draft
            await self._commit(draft)
            for key, device in draft.changed.items():
                if device is None:
                    self._devices.pop(key, None)
                else:
                    self._devices[key] = device

    async def history(
        self, key: ObjectKey, name: str = "", limit: int = HISTORY
    ) -> list[JsonObject]:
        """Return what became of a device's properties, newest first.

        Args:
            key: of the device.
            name: of one property; empty for all.
            limit: as many at most.

        Raises:
            UnavailableError: the file cannot be read now.
        """
        try:
            rows = await self._connection.execute_fetchall(
                "SELECT property, number, body FROM history"
                " WHERE namespace = ? AND device = ? AND (? = '' OR property = ?)",
                (key.namespace, key.name, name, name),
            )
        except sqlite3.DatabaseError as exc:
            if not (is_damage(exc) or isinstance(exc, sqlite3.OperationalError)):
                raise
            self.damage.note(exc)
            raise UnavailableError(f"the twins cannot be read now: {exc}") from exc
        entries = [(msgspec.json.decode(body), number, name) for name, number, body in rows]
        entries.sort(key=lambda each: (each[0]["time"], each[1]), reverse=True)
        return [{"property": name, **entry} for entry, _, name in entries[:limit]]

    async def _load(self) -> None:
        properties: dict[tuple[str, str], list[Property]] = {}
        decoder = msgspec.json.Decoder(Property)
        for namespace, name, body in await self._connection.execute_fetchall(
            "SELECT namespace, device, body FROM twins"
        ):
            properties.setdefault((namespace, name), []).append(decoder.decode(body))
        for row in await self._connection.execute_fetchall(
            f"SELECT {_DEVICE_COLUMNS} FROM devices"  # noqa: S608 - a constant
        ):
            device = _device(tuple(row), properties.get((row[0], row[1]), ()))
            self._devices[device.key] = device

    async def _commit(self, draft: Draft) -> None:
        devices, twins, history, gone = [], [], [], []
        for key, after in draft.changed.items():
            before = None if key in draft.replaced else self._devices.get(key)
            where = (key.namespace, key.name)
            if after is None:
                continue
            if before is None or _lasting(before) != _lasting(after):
                devices.append(_columns(after))
            old = before.properties if before else {}
            for name, each in after.properties.items():
                known = old.get(name)
                if known is not None and each.is_kept_as(known):
                    continue
                twins.append((*where, name, msgspec.json.encode(each)))
            history += [
                (*where, name, number % HISTORY, number, body)
                for name, number, body in draft.history.get(key, ())
                if name in after.properties
            ]
            gone += [(*where, name) for name in old if name not in after.properties]
        replaced = [(key.namespace, key.name) for key in draft.replaced if key in self._devices]
        own = (("devices", "name"), ("twins", "device"), ("history", "device"))
        steps: list[tuple[str, list[Any]]] = [
            *(
                (f"DELETE FROM {table} WHERE namespace = ? AND {column} = ?", replaced)  # noqa: S608
                for table, column in own
            ),
            *(
                (f"DELETE FROM {table} WHERE namespace = ? AND device = ? AND property = ?", gone)  # noqa: S608
                for table in ("twins", "history")
            ),
            (_PUT_DEVICE, devices),
            (_PUT_TWIN, twins),
            (_PUT_HISTORY, history),
        ]
        await self._write([each for each in steps if each[1]])

    async def _write(self, steps: list[tuple[str, list[Any]]]) -> None:
        if not steps:
            return
        try:
            await self._connection.execute("BEGIN IMMEDIATE")
            for statement, rows in steps:
                await self._connection.executemany(statement, rows)
            await self._connection.commit()
        except sqlite3.DatabaseError as exc:
            with contextlib.suppress(sqlite3.DatabaseError):  # of a damaged file
                await asyncio.shield(self._connection.rollback())
            if not (is_damage(exc) or isinstance(exc, sqlite3.OperationalError)):
                raise
            self.damage.note(exc)
            raise UnavailableError(f"the twins cannot be stored now: {exc}") from exc
        except BaseException:
            await asyncio.shield(self._connection.rollback())
            raise


def _counted(after: Device, before: Mapping[str, Property]) -> Device:
    """Return a device whose properties count how often their values changed."""
    properties = {
        name: _with_changes(each, before.get(name)) for name, each in after.properties.items()
    }
    return replace(after, properties=properties)


def _with_changes(each: Property, before: Property | None) -> Property:
    if each is before:
        return each
    if before is None:
        before = Property(name=each.name)
    count = sum(1 for _ in _news(before, each))
    return msgspec.structs.replace(each, changes=before.changes + count) if count else each


def _news(before: Property, after: Property) -> Iterable[tuple[str, Side | None]]:
    """Yield the sides of a property that changed, and what they are now."""
    for side, old, new in (
        ("desired", before.desired, after.desired),
        ("reported", before.reported, after.reported),
    ):
        if old is new or (
            old is not None
            and new is not None
            and (old.cloud, old.edge, old.by) == (new.cloud, new.edge, new.by)
        ):
            continue
        yield side, new


def _entries(before: Property | None, after: Property) -> list[tuple[str, int, bytes]]:
    """Return what is new in the history of a property: its name, number and body."""
    news = list(_news(before or Property(name=after.name), after))
    first = after.changes - len(news)
    now = time.time_ns() // 1_000_000
    entries = []
    for number, (side, value) in enumerate(news, start=first):
        by: By = value.by if value else "device" if side == "reported" else "cloud"
        body: JsonObject = {"side": side, "by": by, "time": now}
        body["value"] = None if value is None else value.value
        encoded = msgspec.json.encode(body)
        if len(encoded) > MAX_REMEMBERED_BYTES:
            del body["value"]
            encoded = msgspec.json.encode({**body, "bytes": len(encoded)})
        entries.append((after.name, number, encoded))
    return entries


async def _migrate(connection: aiosqlite.Connection, path: Path) -> None:
    [[found]] = await connection.execute_fetchall("PRAGMA user_version")
    if not fits(found, len(MIGRATIONS)):
        raise StoreError(
            f"the twins at {path} have version {found}, this fedge knows {len(MIGRATIONS)}: "
            "run the newer fedge again, or move the file away and let devices report anew"
        )
    before = major_of(found)
    for version, script in enumerate(MIGRATIONS[before:], start=before + 1):
        if version == 1:
            script += "INSERT INTO file VALUES (0);"  # noqa: PLW2901
        await connection.execute("BEGIN IMMEDIATE")
        for statement in script.split(";"):
            await connection.execute(statement)
        if version == _MOVED_IN:
            await _move(connection)
        await connection.execute(f"PRAGMA user_version = {version}")
        await connection.commit()


async def _move(connection: aiosqlite.Connection) -> None:
    """Take over the properties of a file of version 1."""
    rows = await connection.execute_fetchall("SELECT * FROM properties")
    moved = []
    for row in rows:
        namespace, device, name, kind, optional, in_manifest, wish, *sides = row
        wished = None if wish is None else msgspec.json.decode(wish)
        each = Property(
            name=name,
            type=kind,
            optional=bool(optional),
            in_manifest=bool(in_manifest),
            wish=wished and Wish(wished["value"], wished.get("metadata") or {}),
            desired=_side("cloud", *sides[:3]),
            reported=_side("device", *sides[3:]),
        )
        moved.append((namespace, device, name, msgspec.json.encode(each)))
    await connection.executemany(_PUT_TWIN, moved)
    await connection.execute("DROP TABLE properties")


def _side(by: By, body: bytes | None, cloud: int, edge: int) -> Side | None:
    if body is None:
        return None
    value, metadata = msgspec.json.decode(body)
    return Side(value=value, by=by, metadata=metadata, cloud=cloud, edge=edge)


async def _next_incarnation(connection: aiosqlite.Connection) -> int:
    """Count a start: later than the one before, whatever the clock says."""
    [[last]] = await connection.execute_fetchall("SELECT incarnation FROM file")
    incarnation = max(int(last) + 1, time.time_ns() // 1_000_000)
    try:
        await connection.execute("UPDATE file SET incarnation = ?", (incarnation,))
    except sqlite3.OperationalError as exc:
        # the disk is full: the clock alone must do
        log.warning("start_not_counted", reason=str(exc))
    return incarnation


def _device(row: tuple[Any, ...], properties: Iterable[Property]) -> Device:
    namespace, name, uid, decided, revision, description, model, state, last_online = row
    return Device(
        key=ObjectKey(DEVICES, namespace, name),
        uid=uid,
        version=Version(decided, revision),
        description=description,
        model=ObjectKey(DEVICE_MODELS, namespace, model) if model else None,
        state=state,
        last_online=last_online,
        properties={each.name: each for each in properties},
    )


def _columns(device: Device) -> tuple[Any, ...]:
    return (
        device.key.namespace,
        device.key.name,
        device.uid,
        *device.version,
        device.description,
        device.model.name if device.model else "",
        device.state,
        device.last_online,
    )


def _lasting(device: Device) -> tuple[Any, ...]:
    """Return what is worth a write: when it was last online, to the minute."""
    *columns, last_online = _columns(device)
    return (*columns, last_online[: len("2026-01-02T03:04")])
