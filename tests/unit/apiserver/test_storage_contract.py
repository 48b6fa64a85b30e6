"""What every storage promises."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedge_apiserver.storage import (
    Entry,
    MemoryStorage,
    SqliteStorage,
    Storage,
    StorageError,
)


def entry(revision: int, name: str = "a", *, previous: int = 0, deleted: bool = False) -> Entry:
    body = b'{"revision":%d}' % revision
    return Entry(revision, "pods", "default", name, previous or revision, previous, deleted, body)


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    made: Storage
    made = MemoryStorage() if request.param == "memory" else SqliteStorage(tmp_path / "log.db")
    yield made
    await made.close()


async def test_new_storage_is_empty(storage: Storage) -> None:
    log = await storage.open()
    assert (list(log.entries), log.revision, log.compacted) == ([], 0, 0)


async def test_opened_again_it_has_what_was_appended_in_order(storage: Storage) -> None:
    await storage.open()
    await storage.append([entry(1), entry(2, "b")], [], 0)
    await storage.append([entry(3, previous=1), entry(4, "b", previous=2, deleted=True)], [], 0)
    await storage.close()
    log = await storage.open()
    assert list(log.entries) == [
        entry(1),
        entry(2, "b"),
        entry(3, previous=1),
        entry(4, "b", previous=2, deleted=True),
    ]
    assert log.revision == 4


async def test_forgotten_entries_are_gone_and_the_revision_stays(storage: Storage) -> None:
    await storage.open()
    await storage.append([entry(1), entry(2, previous=1)], [], 0)
    await storage.append([], [1, 2], 2)
    await storage.close()
    log = await storage.open()
    assert (list(log.entries), log.revision, log.compacted) == ([], 2, 2)


async def test_append_of_a_known_revision_changes_nothing(storage: Storage) -> None:
    await storage.open()
    await storage.append([entry(1)], [], 0)
    with pytest.raises(StorageError):
        await storage.append([entry(2), entry(1, "other")], [1], 1)
    await storage.close()
    log = await storage.open()
    assert (list(log.entries), log.compacted) == ([entry(1)], 0)


async def test_closed_storage_refuses_appends(storage: Storage) -> None:
    await storage.open()
    await storage.close()
    with pytest.raises(StorageError):
        await storage.append([entry(1)], [], 0)


async def test_newer_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    storage = SqliteStorage(path)
    with pytest.raises(StorageError, match="run the version that wrote it"):
        await storage.open()
    await storage.close()
