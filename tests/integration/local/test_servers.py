"""What the shared servers of the tests promise."""

import asyncio

import aio_pika
import pytest
import redis.asyncio

from fedge_fabric.definitions import link_queue
from tests.fixtures.servers import Broker, BrokerPair, Runtime

DEADLINE_SECONDS = 20.0


@pytest.mark.broker
async def test_broker_takes_its_administrator_and_nobody_else(rabbitmq: Broker) -> None:
    async with await aio_pika.connect(rabbitmq.url):
        pass
    stranger = rabbitmq.url.replace("fedge-admin", "wrong")
    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(stranger)


@pytest.mark.broker
async def test_pair_of_brokers_is_linked_down_and_up(broker_pair: BrokerPair) -> None:
    edge = broker_pair.edge
    async with asyncio.timeout(DEADLINE_SECONDS):
        while "{status,running}" not in await edge.evaluate("rabbit_federation_status:status()"):
            continue
        while (await edge.evaluate("rabbit_shovel_status:status()")).count("{running,") < 4:
            continue
    queues = await broker_pair.cloud.evaluate("[Q || {_, _, _, Q} <- rabbit_amqqueue:list_names()]")
    assert link_queue(broker_pair.node) in queues


@pytest.mark.redis
async def test_redis_keeps_a_value(redis_url: str) -> None:
    async with redis.asyncio.from_url(redis_url) as client:
        await client.set("test_servers", "1")
        assert await client.get("test_servers") == b"1"


@pytest.mark.containerd
async def test_containerd_has_the_images_of_the_project(containerd: Runtime) -> None:
    names = await containerd.server.ctr("images", "list", "--quiet")
    assert {containerd.shell_image, containerd.hello_image} <= set(names.split())
