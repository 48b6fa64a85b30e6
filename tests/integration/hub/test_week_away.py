"""A node that was away for a week gets what is, not what was."""

import asyncio
import random
import uuid
from dataclasses import dataclass

from redis.asyncio import Redis
from typing_extensions import override

from fedge_fabric import encode_word
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_hub.domain import Nodes
from fedge_hub.links import FabricCloudLink, FabricDownlink
from fedge_hub.ports import Clock
from fedge_hub.redis_store import RedisWantedStore
from fedge_objects import Change, NodeName, ObjectKey, Version
from tests.fixtures.servers import Broker

WEEK_SECONDS = 7 * 24 * 3600.0
OBJECTS, CHANGES = 100, 10_000


@dataclass
class SimulatedClock(Clock):
    time: float = 1_800_000_000.0

    @override
    def now(self) -> float:
        return self.time


async def test_ten_thousand_changes_of_a_hundred_objects_are_a_hundred_messages(
    rabbitmq: Broker, redis_url: str
) -> None:
    node = NodeName(f"gw-{uuid.uuid4().hex[:6]}.plant.example")
    word, clock, chance = encode_word(node), SimulatedClock(), random.Random(4)  # noqa: S311
    arrived: list[Delivery] = []
    enough, beyond = asyncio.Event(), asyncio.Event()

    async def take(delivery: Delivery) -> None:
        if ".state." in delivery.routing_key:
            arrived.append(delivery)
        if len(arrived) == OBJECTS:
            enough.set()
        if len(arrived) > OBJECTS:
            beyond.set()

    fabric = Fabric(rabbitmq.url, service="test", exchanges=t.CLOUD_EXCHANGES)
    fabric.subscribe(t.Queue(f"test.{word}", (t.Binding(t.DOWN, f"node.{word}.#"),)), take)
    async with Redis.from_url(redis_url) as redis, fabric.running():
        store = RedisWantedStore(redis)
        nodes = Nodes(
            store=store,
            down=FabricDownlink(fabric),
            cloud=FabricCloudLink(fabric),
            clock=clock,
            absent_after_heartbeats=3,
        )
        await nodes.heard(node, 10)
        await nodes.compare(node, {}, {"": {}})
        newest: dict[ObjectKey, Version] = {}
        for revision in range(1, CHANGES + 1):
            clock.time += WEEK_SECONDS / CHANGES
            number = revision if revision <= OBJECTS else chance.randrange(OBJECTS) + 1
            key = ObjectKey("configmaps", "default", f"settings-{number}")
            newest[key] = Version(revision, revision)
            content = {"metadata": {"name": key.name}, "data": {"revision": str(revision)}}
            await nodes.want(node, Change(key=key, version=newest[key], object=content))
        assert arrived == []
        await nodes.heard(node, 10)
        await nodes.compare(node, {}, {"": {}})
        async with asyncio.timeout(30):
            await enough.wait()
        # whatever came beside would have come before this
        last = Change(key=next(iter(newest)), version=Version(10**6, 10**6), object=None)
        await nodes.want(node, last)
        async with asyncio.timeout(30):
            await beyond.wait()
    assert len(arrived) == OBJECTS + 1
    found = {ObjectKey.parse(d.envelope.subject): d.envelope.version for d in arrived[:OBJECTS]}
    assert found == newest
