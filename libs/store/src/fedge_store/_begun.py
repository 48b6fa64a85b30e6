"""Which requests with an effect this node has begun, so that none has it a second time.

A file of its own, beside the objects: edged writes it, meta writes those. It is made by the first
request, and a request costs one commit, which has reached the disk before it returns
(``synchronous=FULL``). Old rows go in the same commit.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

from fedge_fabric import UnavailableError
from fedge_sealing import make_private
from fedge_store._damage import is_damage, set_aside
from fedge_store._schema import fits

T = TypeVar("T")

KEEP_SECONDS: Final = 3600.0
"""No broker delivers a request again after so long: its own time there is up within a minute."""
KEEP_ROWS: Final = 64
"""The newest stay in any case: a clock that is put right may jump by years."""

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS begun (
    number INTEGER PRIMARY KEY,
    id     TEXT    NOT NULL UNIQUE,
    at     REAL    NOT NULL
);
"""
_BUSY_SECONDS: Final = 5.0


class BegunRequests:
    """The file of begun requests. Any number of tasks may use it; constructing it reads nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._using_it = threading.Lock()

    async def begin(self, request_id: str, now: float) -> float | None:
        """Take note that a request is about to have its effect, unless it was begun before.

        Args:
            request_id: of the request.
            now: seconds since the epoch by the node's clock.

        Returns:
            None if this is the first time, and it is on the disk; else when it was begun.

        Raises:
            UnavailableError: the file takes nothing, now or because a newer fedge wrote it, or it
                was damaged and is set aside for the next request: the effect must not be had.
        """
        return await asyncio.to_thread(self._using, lambda file: _begin(file, request_id, now))

    async def all(self) -> dict[str, float]:
        """Return when which requests were begun, as far as they are remembered.

        Raises like ``begin``.
        """
        if not await asyncio.to_thread(self._path.exists):
            return {}
        rows = await asyncio.to_thread(
            self._using, lambda file: file.execute("SELECT id, at FROM begun").fetchall()
        )
        return {str(request_id): float(at) for request_id, at in rows}

    def _using(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # requests with an effect are rare: a connection is not kept for them
        try:
            make_private(self._path)
            with (
                self._using_it,
                closing(
                    sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
                ) as file,
            ):
                file.execute("PRAGMA journal_mode=WAL")
                file.execute("PRAGMA synchronous=FULL")
                self._prepare(file)
                return work(file)
        except (sqlite3.Error, OSError) as exc:
            if is_damage(exc) and self._path.exists():
                # this one may be among those that were begun; whoever asks anew asks another
                set_aside(self._path, reason=str(exc))
            raise UnavailableError(f"{self._path} takes nothing now: {exc}") from exc

    def _prepare(self, file: sqlite3.Connection) -> None:
        [found] = file.execute("PRAGMA user_version").fetchone()
        if not fits(found, _VERSION):
            raise UnavailableError(
                f"{self._path} has version {found}, this fedge knows {_VERSION}: run the newer"
                " fedge again, or remove the file"
            )
        if not found:
            file.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;"
            )


def _begin(file: sqlite3.Connection, request_id: str, now: float) -> float | None:
    file.execute("BEGIN IMMEDIATE")
    row = file.execute("SELECT at FROM begun WHERE id = ?", (request_id,)).fetchone()
    if row is not None:
        file.execute("ROLLBACK")
        return float(row[0])
    file.execute("INSERT INTO begun (id, at) VALUES (?, ?)", (request_id, now))
    file.execute(
        "DELETE FROM begun WHERE abs(? - at) > ? AND number <= (SELECT max(number) FROM begun) - ?",
        (now, KEEP_SECONDS, KEEP_ROWS),
    )
    file.execute("COMMIT")
    return None
