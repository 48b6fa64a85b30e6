"""Files of SQLite that were damaged: set aside, never deleted, and begun anew.

What lies in them comes back: objects from the cloud, whose comparison finds that the node has none;
twins from the cloud and the devices. A node whose file is damaged otherwise would wait for somebody
to come. Meanwhile pods run on: what is not known is not ended.

A power cut damages no file by itself (https://www.sqlite.org/howtocorrupt.html); worn flash does.
"""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import structlog

from fedge_store._schema import StoreError

log = structlog.stdlib.get_logger("fedge.store")

_WITH_IT: Final = ("", "-wal", "-shm")
_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE: Final = 0xFF
_BUSY_SECONDS: Final = 5.0


class Damage:
    """Whether an open file was found to be damaged; whoever opened it waits here for that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found = asyncio.Event()
        self._reason = ""

    def note(self, exc: sqlite3.Error) -> None:
        """Take note of an error, if it is one of damage."""
        if is_damage(exc):
            self._reason = str(exc)
            self._found.set()

    async def wait(self) -> NoReturn:
        """Wait until the file is found to be damaged; opened again, it is set aside.

        Raises:
            StoreError: it is.
        """
        await self._found.wait()
        raise StoreError(f"{self._path} is damaged ({self._reason}): opening it again mends that")


def is_damage(exc: BaseException) -> bool:
    """Whether an error says that a file is damaged, and not that it cannot be had now."""
    code = getattr(exc, "sqlite_errorcode", 0) or 0
    return isinstance(exc, sqlite3.Error) and code & _PRIMARY_CODE in _CODES


def set_aside_if_damaged(path: Path) -> Path | None:
    """Look through a file of SQLite; if it is damaged, rename it and what belongs to it.

    It takes a few milliseconds per megabyte.

    Args:
        path: of the file; nobody writes to it meanwhile.

    Returns:
        Where it is now; None if it is sound, or not there.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as file:
            [found] = file.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as exc:
        if not is_damage(exc):
            return None  # whoever opens it will be told
        found = str(exc)
    return None if found == "ok" else set_aside(path, reason=str(found))


def set_aside(path: Path, *, reason: str) -> Path:
    """Rename a damaged file and what belongs to it, and say so.

    Returns:
        Where it is now.
    """
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    aside = path.with_name(f"{path.name}.damaged-{moment}")
    for suffix in reversed(_WITH_IT):  # the file itself last: until then, this is begun again
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    log.error("database_set_aside", path=str(path), now=str(aside), reason=reason)
    return aside
