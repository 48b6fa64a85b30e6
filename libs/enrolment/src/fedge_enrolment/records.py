"""Where the cloud keeps its authority, its tokens and what it knows of its nodes.

Small documents that are replaced whole, each with a revision, so that several hubs at once never
undo each other's changes. In a folder, for a cloud on one machine, or as Kubernetes Secrets
(`fedge_enrolment.secret_records`). Not in Redis: that may be flushed at any moment.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from typing_extensions import override

from fedge_sealing import write_private

AUTHORITY: Final = "authority"
SERVER: Final = "server"
TOKEN: Final = "token"  # noqa: S105 - a kind of record
NODE: Final = "node"
KINDS: Final = (AUTHORITY, SERVER, TOKEN, NODE)
_LOOK_SECONDS: Final = 0.5
_MAX_FILE_NAME: Final = 200


class RecordError(Exception):
    """Base of what can go wrong with records."""


class ExistsError(RecordError):
    """It is there already."""


class ChangedError(RecordError):
    """It changed, or went, since it was read: read and decide again."""


class RecordsAwayError(RecordError):
    """The records cannot be reached now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One document. Its data are secret and never printed.

    Attributes:
        kind: one of `KINDS`.
        name: unique within the kind.
        data: texts by name.
        revision: of this state; opaque.
    """

    kind: str
    name: str
    data: Mapping[str, str] = field(repr=False)
    revision: str = ""


class Records(Protocol):
    """The documents. Any method may raise `RecordsAwayError`."""

    async def get(self, kind: str, name: str) -> Record | None:
        """Return a document, or None."""
        ...

    async def all_of(self, kind: str) -> list[Record]:
        """Return all documents of a kind, by name."""
        ...

    async def create(self, kind: str, name: str, data: Mapping[str, str]) -> Record:
        """Make a document. Raises `ExistsError`."""
        ...

    async def replace(self, record: Record, data: Mapping[str, str]) -> Record:
        """Change a document that is still as ``record`` says. Raises `ChangedError`."""
        ...

    async def delete(self, kind: str, name: str) -> None:
        """Remove a document, if it is there."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever something may have changed, until closed."""
        ...


class FolderRecords(Records):
    """Documents as files of a folder that only its owner can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @override
    async def get(self, kind: str, name: str) -> Record | None:
        return await asyncio.to_thread(self._read, kind, name)

    @override
    async def all_of(self, kind: str) -> list[Record]:
        return await asyncio.to_thread(self._all, kind)

    @override
    async def create(self, kind: str, name: str, data: Mapping[str, str]) -> Record:
        return await asyncio.to_thread(self._write, Record(kind=kind, name=name, data=data), "")

    @override
    async def replace(self, record: Record, data: Mapping[str, str]) -> Record:
        new = Record(kind=record.kind, name=record.name, data=data)
        return await asyncio.to_thread(self._write, new, record.revision)

    @override
    async def delete(self, kind: str, name: str) -> None:
        await asyncio.to_thread(self._remove, kind, name)

    @override
    async def changes(self) -> AsyncIterator[None]:
        before: object = None
        while True:
            now = await asyncio.to_thread(self._state)
            if now != before:
                before = now
                yield
            await asyncio.sleep(_LOOK_SECONDS)

    def _path(self, kind: str, name: str) -> Path:
        file = quote(name, safe="")
        if file.startswith(".") or len(file) > _MAX_FILE_NAME:
            file = hashlib.sha256(name.encode()).hexdigest()
        return self._folder / kind / f"{file}.json"

    def _read(self, kind: str, name: str) -> Record | None:
        return _load(kind, self._path(kind, name))

    def _all(self, kind: str) -> list[Record]:
        files = sorted((self._folder / kind).glob("*.json"))
        return [record for file in files if (record := _load(kind, file)) is not None]

    def _write(self, record: Record, expected: str) -> Record:
        path = self._path(record.kind, record.name)
        with self._alone():
            there = _load(record.kind, path)
            if there is None and expected:
                raise ChangedError(f"{record.kind} {record.name!r} is gone")
            if there is not None and not expected:
                raise ExistsError(f"{record.kind} {record.name!r} is there already")
            if there is not None and there.revision != expected:
                raise ChangedError(f"{record.kind} {record.name!r} has changed")
            revision = secrets.token_hex(8)
            content = {"name": record.name, "revision": revision, "data": dict(record.data)}
            write_private(path, json.dumps(content).encode())
        return Record(kind=record.kind, name=record.name, data=record.data, revision=revision)

    def _remove(self, kind: str, name: str) -> None:
        with self._alone():
            path = self._path(kind, name)
            path.unlink(missing_ok=True)

    def _state(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for file in self._folder.glob("*/*.json"):
            with contextlib.suppress(FileNotFoundError):  # it went while we looked
                found[str(file)] = file.stat().st_mtime_ns
        return found

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self._folder / "lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as exc:
            raise RecordsAwayError(
                f"the records in {self._folder} cannot be written: {exc}"
            ) from exc


def _load(kind: str, path: Path) -> Record | None:
    try:
        content = json.loads(path.read_bytes())
        return Record(
            kind=kind, name=content["name"], data=content["data"], revision=content["revision"]
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise RecordsAwayError(f"the record {path} cannot be read: {exc!r}") from exc
