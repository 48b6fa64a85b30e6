"""Damaged files are set aside, whole, and begun anew."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fedge_fabric import UnavailableError
from fedge_objects import Change, ObjectKey, Version
from fedge_store import ObjectReader, ObjectStore, StoreError, set_aside_if_damaged

PAGE = 4096


def change(number: int) -> Change:
    key = ObjectKey("configmaps", "default", f"c-{number}")
    return Change(key=key, version=Version(1, number), object={"data": {"x": "y" * 2000}})


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store with objects in it."""
    path = tmp_path / "meta.db"
    async with ObjectStore.opened(path) as store:
        for number in range(200):
            await store.apply(change(number), [])
    return path


def overwrite(path: Path, *, at: int, size: int = PAGE) -> bytes:
    content = bytearray(path.read_bytes())
    assert len(content) > at + size
    content[at : at + size] = b"\xa5" * size
    path.write_bytes(content)
    return bytes(content)


@pytest.mark.parametrize("at", [0, 5 * PAGE, 40 * PAGE])
async def test_damaged_store_is_set_aside_and_a_new_one_takes_everything(
    path: Path, at: int
) -> None:
    damaged = overwrite(path, at=at)
    async with ObjectStore.opened(path) as store:
        assert await store.versions() == {}
        assert await store.apply(change(1), [])
    [aside] = path.parent.glob("meta.db.damaged-*")
    assert aside.read_bytes() == damaged
    async with ObjectReader.opened(path) as reader:
        assert [each.key.name for each in await reader.list("configmaps")] == ["c-1"]


async def test_sound_store_and_one_that_is_not_there_are_left_alone(path: Path) -> None:
    assert set_aside_if_damaged(path) is None
    assert set_aside_if_damaged(path.with_name("other.db")) is None
    async with ObjectStore.opened(path) as store:
        assert len(await store.versions()) == 200
    assert list(path.parent.glob("*damaged*")) == []


async def test_busy_store_is_not_taken_for_damaged(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert set_aside_if_damaged(path) is None


async def test_reader_of_a_damaged_store_is_told_that_there_is_none(path: Path) -> None:
    overwrite(path, at=0)
    with pytest.raises(FileNotFoundError, match="is damaged"):
        async with ObjectReader.opened(path) as reader:
            await reader.list("configmaps")


async def test_damage_while_it_is_open_ends_its_user_and_is_mended_by_the_next(path: Path) -> None:
    async with ObjectStore.opened(path) as store:
        overwrite(path, at=PAGE, size=60 * PAGE)
        await store._connection.execute("PRAGMA shrink_memory")
        with pytest.raises(UnavailableError):
            await store.objects(["configmaps"])
        with pytest.raises(StoreError, match="is damaged"):
            await store.damage.wait()
    async with ObjectStore.opened(path) as store:
        assert await store.versions() == {}
    assert len(list(path.parent.glob("meta.db.damaged-*[0-9]"))) == 1
