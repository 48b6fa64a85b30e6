"""A refusal is told when what it was judged by is durable: who hears it finds the same."""

import asyncio
from collections.abc import Awaitable

import pytest

from fedge_apiserver.errors import ApiError
from fedge_apiserver.registry import DeleteOptions, Outcome, Registry
from fedge_apiserver.resources import NAMESPACES, Catalog
from fedge_apiserver.store import Store
from fedge_objects import JsonObject
from tests.unit.apiserver.test_store import GatedStorage

NAME = "records"
NOW = DeleteOptions(grace_seconds=0)


def namespace() -> JsonObject:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}


async def opened(storage: GatedStorage) -> Registry:
    store = Store(storage)
    await store.open()
    registry = Registry(store, Catalog())
    await registry.open()
    return registry


async def behind_the_gate(*writes: Awaitable[Outcome]) -> list["asyncio.Future[Outcome]"]:
    """Begin writes; none of them may end before the gate opens."""
    tasks: list[asyncio.Future[Outcome]] = [asyncio.ensure_future(each) for each in writes]
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(each.done() for each in tasks)
    return tasks


async def test_who_hears_that_it_exists_finds_it() -> None:
    storage = GatedStorage()
    registry = await opened(storage)
    storage.gate.clear()
    first, second = await behind_the_gate(
        registry.create(NAMESPACES, "", namespace()), registry.create(NAMESPACES, "", namespace())
    )
    storage.gate.set()
    with pytest.raises(ApiError, match="already exists"):
        await second
    assert registry.store.get(NAMESPACES.storage, "", NAME) is not None
    assert (await first).is_new


async def test_who_hears_that_it_changed_finds_the_newer_one() -> None:
    storage = GatedStorage()
    registry = await opened(storage)
    made = (await registry.create(NAMESPACES, "", namespace())).value
    storage.gate.clear()

    def labelled(text: str) -> JsonObject:
        return {**made, "metadata": {**made["metadata"], "labels": {"by": text}}}

    _, late = await behind_the_gate(
        registry.update(NAMESPACES, "", NAME, lambda _: labelled("first")),
        registry.update(NAMESPACES, "", NAME, lambda _: labelled("late")),
    )
    storage.gate.set()
    with pytest.raises(ApiError) as refused:
        await late
    assert refused.value.reason == "Conflict"
    found = registry.read(NAMESPACES, "", NAME)
    assert found is not None
    assert found["metadata"]["labels"]["by"] == "first"


async def test_who_is_refused_because_of_what_was_not_stored_is_not_told_that_it_exists() -> None:
    storage = GatedStorage()
    registry = await opened(storage)
    storage.gate.clear()
    storage.fails = True
    tasks = await behind_the_gate(
        registry.create(NAMESPACES, "", namespace()), registry.create(NAMESPACES, "", namespace())
    )
    storage.gate.set()
    for each in tasks:
        with pytest.raises(ApiError) as refused:
            await each
        assert refused.value.reason == "ServiceUnavailable"
    storage.fails = False
    assert (await registry.create(NAMESPACES, "", namespace())).is_new
