"""Meta: what is stored, what is said about it, and what is said anew after a kill."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedge_fabric import kinds, topology
from fedge_meta.keeping import Keeping
from fedge_objects import Change, NodeName, ObjectKey, Version, VersionTree
from fedge_store import ObjectStore

NODE = NodeName("gw-1.plant.example")
KEY = ObjectKey("pods", "d", "a")


def change(revision: int, *, gone: bool = False) -> Change:
    obj = None if gone else {"metadata": {"name": "a"}, "revision": revision}
    return Change(key=KEY, version=Version(revision, revision), object=obj)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with ObjectStore.opened(tmp_path / "meta.db") as opened:
        yield opened


@pytest.fixture
def keeping(store: ObjectStore) -> Keeping:
    return Keeping(node=NODE, store=store)


async def test_change_is_stored_with_the_word_to_hub_and_to_the_neighbours(
    store: ObjectStore, keeping: Keeping
) -> None:
    await keeping.keep(change(5))
    stored, told = [row.message for row in await store.waiting(10)]
    assert (stored.exchange, stored.envelope.type) == (topology.UP, kinds.OBJECT_STORED)
    assert stored.routing_key == "node.gw-1_plant_example.state.pods.d.a"
    assert stored.envelope.version == Version(5, 5)
    assert (told.exchange, told.routing_key) == (topology.LOCAL, "object.pods.d.a")


async def test_neighbours_are_told_the_newest_state_when_the_word_goes_out(
    store: ObjectStore, keeping: Keeping
) -> None:
    for revision in (5, 6, 7):
        await keeping.keep(change(revision))
    words = [
        row.message for row in await store.waiting(10) if row.message.exchange == "fedge.local"
    ]
    told = [await keeping.in_full(word) for word in words]
    assert {each.envelope.version for each in told if each} == {Version(7, 7)}
    assert all(each.envelope.data == change(7).object for each in told if each)


async def test_neighbours_are_told_of_a_tombstone(store: ObjectStore, keeping: Keeping) -> None:
    await keeping.keep(change(5))
    await keeping.keep(change(6, gone=True))
    word = (await store.waiting(10))[-1].message
    told = await keeping.in_full(word)
    assert told is not None
    assert told.envelope.type == kinds.OBJECT_GONE


async def test_repeat_is_confirmed_to_hub_again_and_told_to_nobody_else(
    store: ObjectStore, keeping: Keeping
) -> None:
    await keeping.keep(change(5))
    before = len(await store.waiting(10))
    await keeping.keep(change(5))
    again = (await store.waiting(10))[before:]
    assert [row.message.envelope.type for row in again] == [kinds.OBJECT_STORED]


async def test_digest_tells_the_hash_of_all_tombstones_too(
    store: ObjectStore, keeping: Keeping
) -> None:
    await keeping.keep(change(6, gone=True))
    message = await keeping.digest()
    assert message.envelope.data == {
        "hashes": {"": VersionTree({"pods/d/a": "6.6"}).hash()},
        "versions": {},
    }
    assert message.routing_key == "node.gw-1_plant_example.state.digest"


async def test_digest_tells_versions_of_a_small_branch_and_hashes_of_a_large_one(
    store: ObjectStore, keeping: Keeping
) -> None:
    await keeping.keep(change(6))
    told = (await keeping.digest([""])).envelope.data
    assert told == {"hashes": {}, "versions": {"": {"pods/d/a": "6.6"}}}
    for number in range(40):
        key = ObjectKey("pods", "d", f"b{number}")
        await store.apply(Change(key=key, version=Version(7, 7), object={}), [])
    told = (await keeping.digest([""])).envelope.data
    assert told["versions"] == {}
    assert len(told["hashes"]) == 16
