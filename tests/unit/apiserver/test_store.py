"""The store: atomic writes, one fsync for many, watches across restarts."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge_apiserver.storage import Entry, MemoryStorage, StorageError
from fedge_apiserver.store import Event, ExpiredError, Store, decode
from fedge_objects import JsonObject


class GatedStorage(MemoryStorage):
    """Lets the test decide when a write is durable, and whether it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.fails = False

    async def append(self, entries: Sequence[Entry], forget: Sequence[int], compacted: int) -> None:
        await self.gate.wait()
        if self.fails:
            raise StorageError("disk full")
        self.batches.append(len(entries))
        await super().append(entries, forget, compacted)


def value(text: str = "") -> JsonObject:
    return {"metadata": {"name": "x"}, "data": text}


async def opened(storage: MemoryStorage, *, history_events: int = 1000) -> Store:
    store = Store(storage, history_events=history_events)
    await store.open()
    return store


async def test_many_writers_share_one_append() -> None:
    storage = GatedStorage()
    store = await opened(storage)
    storage.gate.clear()
    tasks = [
        asyncio.create_task(store.put("pods", "default", f"p{index}", value()))
        for index in range(50)
    ]
    await asyncio.sleep(0)
    storage.gate.set()
    await asyncio.gather(*tasks)
    assert sum(storage.batches) == 50
    assert len(storage.batches) <= 2
    await store.close()


async def test_readers_see_only_what_is_durable_and_writers_what_is_next() -> None:
    storage = GatedStorage()
    store = await opened(storage)
    storage.gate.clear()
    task = asyncio.create_task(store.put("pods", "default", "p", value()))
    await asyncio.sleep(0)
    assert store.get("pods", "default", "p") is None
    assert store.head("pods", "default", "p") is not None
    assert store.revision == 0
    storage.gate.set()
    entry = await task
    assert store.get("pods", "default", "p") == entry
    assert decode(entry.body)["metadata"]["resourceVersion"] == "1"
    await store.close()


async def test_failed_append_fails_its_writers_and_leaves_no_trace() -> None:
    storage = GatedStorage()
    store = await opened(storage)
    await store.put("pods", "default", "old", value())
    storage.fails = True
    with pytest.raises(StorageError, match="disk full"):
        await store.put("pods", "default", "p", value())
    assert store.head("pods", "default", "p") is None
    storage.fails = False
    entry = await store.put("pods", "default", "p", value())
    assert entry.revision == 2
    await store.close()


async def test_writer_that_is_cancelled_does_not_undo_its_write() -> None:
    storage = GatedStorage()
    store = await opened(storage)
    storage.gate.clear()
    task = asyncio.create_task(store.put("pods", "default", "p", value()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    storage.gate.set()
    await store.close()
    again = await opened(storage)
    assert again.get("pods", "default", "p") is not None
    await again.close()


async def test_objects_come_sorted_and_by_namespace() -> None:
    store = await opened(MemoryStorage())
    for namespace, name in (("b", "x"), ("a", "z"), ("a", "y"), ("ab", "x")):
        await store.put("pods", namespace, name, value())
    assert [(e.namespace, e.name) for e in store.select("pods")] == [
        ("a", "y"),
        ("a", "z"),
        ("ab", "x"),
        ("b", "x"),
    ]
    assert [e.name for e in store.select("pods", "a")] == ["y", "z"]
    assert [e.name for e in store.select("pods", "a", ("a", "y"))] == ["z"]
    await store.close()


async def test_watch_behind_the_history_has_expired() -> None:
    store = await opened(MemoryStorage(), history_events=3)
    for index in range(6):
        await store.put("pods", "default", "p", value(str(index)))
    with pytest.raises(ExpiredError):
        store.watch("pods", 1)
    with store.watch("pods", 4) as watch:
        assert [event.entry.revision for event in watch.take()] == [5, 6]
    await store.close()


async def test_slow_watch_is_told() -> None:
    store = await opened(MemoryStorage(), history_events=3)
    with store.watch("pods", 0) as watch:
        for index in range(6):
            await store.put("pods", "default", "p", value(str(index)))
        with pytest.raises(ExpiredError):
            watch.take()
    await store.close()


async def test_history_of_other_resources_is_no_reason_to_miss_any() -> None:
    store = await opened(MemoryStorage(), history_events=3)
    await store.put("pods", "default", "p", value())
    with store.watch("pods", 1) as watch:
        for index in range(6):
            await store.put("events", "default", f"e{index}", value())
        await store.put("pods", "default", "q", value())
        assert [event.entry.name for event in watch.take()] == ["q"]
    await store.close()


def seen(events: list[Event]) -> list[tuple[int, bool, int | None]]:
    return [
        (e.entry.revision, e.entry.deleted, e.before.revision if e.before else None) for e in events
    ]


Step = tuple[str, str]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "delete", "restart"]), st.sampled_from("abc")),
        max_size=40,
    ),
    history=st.integers(min_value=2, max_value=12),
    start=st.integers(min_value=0, max_value=30),
)
def test_watch_across_restarts_equals_one_without(
    steps: list[Step], history: int, start: int
) -> None:
    asyncio.run(compare(steps, history, start))


async def compare(steps: list[Step], history: int, start: int) -> None:
    storage = MemoryStorage()
    store = await opened(storage, history_events=history)
    whole = await opened(MemoryStorage(), history_events=history)
    for action, name in steps:
        if action == "restart":
            await store.close()
            store = await opened(storage, history_events=history)
        elif action == "put":
            await store.put("pods", "", name, value())
            await whole.put("pods", "", name, value())
        elif store.head("pods", "", name) is not None:
            await store.delete("pods", "", name, value())
            await whole.delete("pods", "", name, value())
    assert [e.revision for e in store.select("pods")] == [e.revision for e in whole.select("pods")]
    assert store.revision == whole.revision
    # A restart may have kept a little more history than was left without it, never less.
    assert store.oldest <= whole.oldest
    revision = min(max(start, whole.oldest), whole.revision)
    with store.watch("pods", revision) as mine, whole.watch("pods", revision) as theirs:
        assert seen(mine.take()) == seen(theirs.take())
    # What is kept stays bounded: each object's newest entry, and the history's.
    held = await storage.open()
    assert len(held.entries) <= 3 + 2 * (history + 1)
    await store.close()
    await whole.close()


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "delete", "restart"]), st.sampled_from("abc")),
        max_size=40,
    ),
    history=st.integers(min_value=2, max_value=12),
)
def test_snapshot_is_what_the_list_was_then(steps: list[Step], history: int) -> None:
    asyncio.run(look_back(steps, history))


async def look_back(steps: list[Step], history: int) -> None:
    storage = MemoryStorage()
    store = await opened(storage, history_events=history)
    lists: dict[int, list[int]] = {0: []}
    for action, name in steps:
        if action == "restart":
            await store.close()
            store = await opened(storage, history_events=history)
        elif action == "put":
            await store.put("pods", name, name, value())
        elif store.head("pods", name, name) is not None:
            await store.delete("pods", name, name, value())
        lists[store.revision] = [e.revision for e in store.select("pods")]
    for revision, listed in lists.items():
        if revision < store.oldest:
            assert not store.is_unchanged("pods", revision)
            with pytest.raises(ExpiredError):
                store.snapshot("pods", "", revision)
            continue
        assert [e.revision for e in store.snapshot("pods", "", revision)] == listed
        of_one = [e.revision for e in store.snapshot("pods", "a", revision)]
        assert of_one == [number for number in listed if number in of_one]
        if store.is_unchanged("pods", revision):
            assert listed == lists[store.revision]
    await store.close()
