"""The store of what nodes should have, on a real Redis, by the contract."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from fedge_fabric import UnavailableError
from fedge_hub.ports import WantedStore
from fedge_hub.redis_store import RedisWantedStore
from tests.contract.wanted_store import NODE, OTHER, WantedStoreContract, change

pytestmark = pytest.mark.redis


class TestRedisWantedStore(WantedStoreContract):
    """Everything that the contract asks."""

    @pytest.fixture
    async def store(self, redis_url: str) -> AsyncIterator[WantedStore]:
        async with Redis.from_url(redis_url) as redis:
            yield RedisWantedStore(redis)
            for node in (NODE, OTHER):
                async for key in redis.scan_iter(f"fedge:{{{node}}}:*"):
                    await redis.delete(key)


async def test_store_that_does_not_answer_is_said_to_be_unavailable() -> None:
    async with Redis.from_url("redis://127.0.0.1:9/0") as redis:
        with pytest.raises(UnavailableError, match="Redis does not answer"):
            await RedisWantedStore(redis).want(NODE, change("a", 1, 1))


async def test_data_of_another_version_of_hub_is_dropped_and_own_data_kept(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.set("fedge:format", "1")
        await redis.hset(f"fedge:{{{NODE}}}:wanted", "pods/d/a", "5.5")
        store = RedisWantedStore(redis)
        await store.prepare()
        assert await store.wanted(NODE) == {}
        await store.want(NODE, change("a", 5, 5))
        await store.prepare()
        assert list(await store.wanted(NODE)) == [change("a", 5, 5).key]
        await redis.delete(*[key async for key in redis.scan_iter("fedge:*")])


async def test_object_that_goes_while_it_is_read_leaves_its_turn_to_its_tombstone(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = change("a", 6, 6, gone=True)  # with the context of a trace
    async with Redis.from_url(redis_url) as redis:
        store, bodies = RedisWantedStore(redis), redis.hmget
        await store.want(NODE, change("a", 5, 5))
        await store.want(NODE, change("b", 5, 5))

        async def overtaken(*arguments: Any) -> Any:
            await store.want(NODE, gone)
            return await bodies(*arguments)

        monkeypatch.setattr(redis, "hmget", overtaken)
        assert await store.unsent(NODE) == [change("b", 5, 5)]
        assert await store.unsent(NODE) == [gone, change("b", 5, 5)]
        await redis.delete(*[key async for key in redis.scan_iter(f"fedge:{{{NODE}}}:*")])
