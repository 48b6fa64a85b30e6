"""Meta: what is stored, what is said about it, and what is said anew after a kill."""

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedge_fabric import InvalidError, kinds, topology
from fedge_fabric.effects import Effects
from fedge_meta.keeping import Keeping
from fedge_objects import Change, NodeName, ObjectKey, Version, VersionTree
from fedge_sealing import NodeSeal, SealingKey, is_sealed, seal_change
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
def seal(tmp_path: Path) -> NodeSeal:
    return NodeSeal(tmp_path / "sealing.key", joined=tmp_path / "joined.json")


@pytest.fixture
def keeping(store: ObjectStore, seal: NodeSeal) -> Keeping:
    return Keeping(node=NODE, store=store, seal=seal, effects=Effects(NODE, "meta"))


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


SECRET = ObjectKey("secrets", "d", "login")
WORDS = "open sesame"


def secret(revision: int = 5) -> Change:
    obj = {"metadata": {"name": "login"}, "data": {"password": WORDS}}
    return Change(key=SECRET, version=Version(revision, revision), object=obj)


def on_disk(tmp_path: Path) -> bytes:
    return b"".join(each.read_bytes() for each in tmp_path.iterdir() if each.is_file())


async def test_a_secret_is_stored_and_told_on_sealed(
    store: ObjectStore, keeping: Keeping, seal: NodeSeal, tmp_path: Path
) -> None:
    await keeping.keep(secret())
    found = await store.get(SECRET)
    assert found is not None
    assert is_sealed(found.object)
    assert seal.unsealed(found) == secret()
    told = [await keeping.in_full(row.message) for row in await store.waiting(10)]
    assert not any(WORDS in str(each) for each in told)
    assert WORDS.encode() not in on_disk(tmp_path)


async def test_what_hub_sealed_is_stored_as_it_came(
    store: ObjectStore, keeping: Keeping, seal: NodeSeal
) -> None:
    sealed = seal_change(secret(), seal.key.public)
    await keeping.keep(sealed)
    assert await store.get(SECRET) == sealed


async def test_what_is_sealed_to_another_node_is_refused(
    store: ObjectStore, keeping: Keeping, tmp_path: Path
) -> None:
    other = SealingKey.load_or_make(tmp_path / "another.key")
    with pytest.raises(InvalidError, match="is sealed to key"):
        await keeping.keep(seal_change(secret(), other.public))
    assert await store.get(SECRET) is None


async def test_what_lay_open_is_sealed_and_leaves_no_trace(
    store: ObjectStore, keeping: Keeping, seal: NodeSeal, tmp_path: Path
) -> None:
    await store.apply(secret(), [])
    await store.apply(change(5), [])
    assert WORDS.encode() in on_disk(tmp_path)
    await keeping.seal_what_lies_open()
    found = await store.get(SECRET)
    assert found is not None
    assert is_sealed(found.object)
    assert found.version == secret().version
    assert seal.unsealed(found) == secret()
    assert await store.get(KEY) == change(5)
    assert WORDS.encode() not in on_disk(tmp_path)


async def test_what_no_key_opens_any_more_is_forgotten_so_that_it_comes_again(
    store: ObjectStore, keeping: Keeping, tmp_path: Path
) -> None:
    other = SealingKey.load_or_make(tmp_path / "another.key")
    await store.apply(seal_change(secret(), other.public), [])
    await keeping.seal_what_lies_open()
    assert await store.versions() == {}
    await keeping.keep(secret())
    assert await store.get(SECRET) is not None


def modes_of(folder: Path, name: str) -> set[int]:
    """Return who may read a database and what lies beside it."""
    return {stat.S_IMODE(each.stat().st_mode) for each in folder.glob(f"{name}*")}


async def test_nobody_else_can_read_the_file(store: ObjectStore, tmp_path: Path) -> None:
    await store.apply(change(5), [])
    assert modes_of(tmp_path, "meta.db") == {0o600}


async def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "open.db"
    path.touch()
    path.chmod(0o644)
    async with ObjectStore.opened(path) as store:
        await store.apply(change(5), [])
        assert modes_of(tmp_path, "open.db") == {0o600}
