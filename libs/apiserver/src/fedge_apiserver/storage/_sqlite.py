"""The log in one SQLite file.

WAL with ``synchronous=FULL``: an append is one transaction and one fsync, whatever its length, and
an acknowledged one outlives a power cut. All statements run on one thread of their own, because a
commit waits for the disk and SQLite's connections belong to a thread.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fedge_apiserver.storage._port import Entry, Log, StorageError

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE log (
    revision INTEGER PRIMARY KEY,
    resource TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    previous INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE mark (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL,
    compacted INTEGER NOT NULL
) STRICT;
INSERT INTO mark VALUES (1, 0, 0);
"""

_T = TypeVar("_T")


class SqliteStorage:
    """A log at ``path``; the folder must exist."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> Log:
        """Open the file, make it if it is not there, and read it.

        Raises:
            StorageError: it is unreadable, or written by a newer version.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="apiserver-storage")
        return await self._do(self._open)

    async def append(self, entries: Sequence[Entry], forget: Sequence[int], compacted: int) -> None:
        """Write in one transaction; on return it is on the disk.

        Raises:
            StorageError: nothing was written.
        """
        await self._do(lambda: self._append(entries, forget, compacted))

    async def close(self) -> None:
        """Close the file."""
        if self._thread is None:
            return
        try:
            await self._do(self._close)
        finally:
            self._thread.shutdown(wait=True)
            self._thread = None

    async def _do(self, work: Callable[[], _T]) -> _T:
        if self._thread is None:
            raise StorageError(f"{self._path} is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as exc:
            raise StorageError(f"{self._path}: {exc}") from exc

    def _open(self) -> Log:
        # It holds secrets; SQLite gives its other files the same rights.
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection = connection
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA cache_size=-4000")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            # Schema and version in one transaction: a cut between them would leave tables that
            # the next start tries to make again.
            connection.executescript(
                f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={_SCHEMA_VERSION};COMMIT;"
            )
        elif version != _SCHEMA_VERSION:
            raise StorageError(
                f"{self._path} has schema {version}, this program knows {_SCHEMA_VERSION}: "
                "run the version that wrote it, or move the file away"
            )
        strings: dict[str, str] = {}

        def entry(row: tuple[int, str, str, str, int, int, int, bytes]) -> Entry:
            revision, resource, namespace, name, created, previous, deleted, body = row
            return Entry(
                revision,
                strings.setdefault(resource, resource),
                strings.setdefault(namespace, namespace),
                name,
                created,
                previous,
                bool(deleted),
                body,
            )

        rows = connection.execute("SELECT * FROM log ORDER BY revision")
        entries = [entry(row) for row in rows]
        revision, compacted = connection.execute("SELECT revision, compacted FROM mark").fetchone()
        return Log(entries, revision, compacted)

    def _append(self, entries: Sequence[Entry], forget: Sequence[int], compacted: int) -> None:
        if self._connection is None:
            raise StorageError(f"{self._path} is not open")
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(
                "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        e.revision,
                        e.resource,
                        e.namespace,
                        e.name,
                        e.created,
                        e.previous,
                        int(e.deleted),
                        e.body,
                    )
                    for e in entries
                ],
            )
            if forget:
                connection.executemany(
                    "DELETE FROM log WHERE revision = ?", [(revision,) for revision in forget]
                )
            newest = max((entry.revision for entry in entries), default=0)
            connection.execute(
                "UPDATE mark SET revision = max(revision, ?), compacted = ?", (newest, compacted)
            )
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
