"""The outbox: on the disk, in order, together where that is the same, bounded, sealed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fedge_fabric.writes import Author, ObjectChange
from fedge_meta.api.outbox import PENDING, FullError, Outbox
from fedge_objects import JsonObject, ObjectKey
from fedge_sealing import NodeSeal
from fedge_store import ObjectStore

POD = ObjectKey("pods", "d", "p")
AUTHOR = Author(account=("d", "app"), about=POD, uid="u")
OTHER = Author(account=("d", "other"), about=POD, uid="u")
KEY = ObjectKey("configmaps", "d", "a")


def obj(name: str = "a", **data: str) -> JsonObject:
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": "d"}, "data": data}


def change(
    base: JsonObject | None, wanted: JsonObject | None, plural: str = "configmaps"
) -> ObjectChange:
    name = (wanted or base or {})["metadata"]["name"]
    verb = "create" if base is None else "delete" if wanted is None else "update"
    return ObjectChange(
        verb=verb, group="", version="v1", plural=plural, namespace="d", name=name,
        base=base, wanted=wanted,
    )  # fmt: skip


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with ObjectStore.opened(tmp_path / "meta.db") as opened:
        yield opened


@pytest.fixture
def seal(tmp_path: Path) -> NodeSeal:
    return NodeSeal(tmp_path / "sealing.key", joined=tmp_path / "joined.json")


@pytest.fixture
def outbox(store: ObjectStore, seal: NodeSeal) -> Outbox:
    return Outbox(store, seal, most_bytes=10_000, now=lambda: 1_000_000.0)


def shown(outbox: Outbox, value: JsonObject | None) -> tuple[Any, bool]:
    """Return the data that is shown of an object, and whether it is marked."""
    seen = outbox.applied_to(KEY, value)
    if seen is None:
        return None, False
    return seen["data"], PENDING in (seen["metadata"].get("annotations") or {})


async def read_again(store: ObjectStore, seal: NodeSeal) -> Outbox:
    again = Outbox(store, seal, most_bytes=10_000)
    await again.read()
    return again


async def test_write_shows_at_once_and_outlives_the_process(
    store: ObjectStore, seal: NodeSeal, outbox: Outbox
) -> None:
    await outbox.accept(AUTHOR, change(None, obj(a="1")))
    assert shown(outbox, None) == ({"a": "1"}, True)
    again = await read_again(store, seal)
    assert shown(again, None) == ({"a": "1"}, True)
    assert again.keys() == {KEY}


async def test_what_the_cloud_changes_meanwhile_shows_beside_it(outbox: Outbox) -> None:
    await outbox.accept(AUTHOR, change(obj(a="1"), obj(a="2")))
    assert shown(outbox, obj(a="1", b="new")) == ({"a": "2", "b": "new"}, True)
    # until it is merged, the edge shows what was written here
    assert shown(outbox, obj(a="cloud")) == ({"a": "2"}, True)
    await outbox.accept(AUTHOR, change(obj(a="2"), None))
    assert shown(outbox, obj(a="1")) == (None, False)


async def test_writes_of_one_author_that_did_not_leave_come_together(
    store: ObjectStore, outbox: Outbox
) -> None:
    await outbox.accept(AUTHOR, change(obj(a="1"), obj(a="2")))
    await outbox.accept(AUTHOR, change(obj(a="2"), obj(a="3")))
    [row] = await store.writes()
    pending = await outbox.leave()
    assert pending is not None
    assert (pending.kept.change.base, pending.kept.change.wanted) == (obj(a="1"), obj(a="3"))
    assert pending.id == row.id
    # it may be with the cloud by now, so the next is one of its own, behind it
    await outbox.accept(AUTHOR, change(obj(a="3"), obj(a="4")))
    await outbox.accept(OTHER, change(obj(a="4"), obj(a="5")))
    assert len(await store.writes()) == 3
    assert shown(outbox, obj(a="1")) == ({"a": "5"}, True)
    await outbox.drop(pending)
    following = await outbox.leave()
    assert following is not None
    assert following.kept.change.wanted == obj(a="4")


async def test_what_was_made_and_removed_before_anybody_saw_it_is_nothing(
    store: ObjectStore, outbox: Outbox
) -> None:
    await outbox.accept(AUTHOR, change(None, obj(a="1")))
    await outbox.accept(AUTHOR, change(obj(a="1"), None))
    assert await store.writes() == []
    assert await outbox.leave() is None
    await outbox.accept(AUTHOR, change(obj(a="1"), None))
    await outbox.accept(AUTHOR, change(None, obj(a="2")))
    pending = await outbox.leave()
    assert pending is not None
    assert pending.kept.change.verb == "update"
    assert pending.kept.change.base == obj(a="1")


async def test_full_outbox_refuses_and_keeps_what_it_has(
    store: ObjectStore, outbox: Outbox
) -> None:
    await outbox.accept(AUTHOR, change(None, obj(a="x" * 5000)))
    with pytest.raises(FullError):
        await outbox.accept(AUTHOR, change(None, obj("b", a="x" * 6000)))
    with pytest.raises(FullError):
        await outbox.accept(AUTHOR, change(obj(a="x" * 5000), obj(a="x" * 11_000)))
    assert shown(outbox, None) == ({"a": "x" * 5000}, True)
    assert len(await store.writes()) == 1


async def test_secret_waits_sealed(
    store: ObjectStore, seal: NodeSeal, outbox: Outbox, tmp_path: Path
) -> None:
    await outbox.accept(AUTHOR, change(None, obj(password="s3cret"), "secrets"))
    [row] = await store.writes()
    assert b"s3cret" not in row.body
    again = await read_again(store, seal)
    pending = await again.leave()
    assert pending is not None
    assert pending.kept.change.wanted == obj(password="s3cret")
    strange = NodeSeal(tmp_path / "other.key", joined=tmp_path / "joined.json")
    with_other_key = Outbox(store, strange, most_bytes=10_000)
    await with_other_key.read()
    # it cannot be read, and is not thrown away either
    assert len(with_other_key) == 0
    assert len(await store.writes()) == 1
