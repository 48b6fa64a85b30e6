"""Repairing real links: dropped connections are dialled anew, removed links are made anew."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aio_pika
import pytest
from yarl import URL

from fedge_fabric import MessageClass, UnavailableError
from fedge_fabric import topology as t
from fedge_fabric.definitions import upstream_name
from fedge_meta.broker import Broker
from fedge_meta.links import LINKS
from fedge_meta.sockets import Sockets
from tests.fixtures.servers import BrokerPair

SECONDS = 30
SHOVELS = [t.up_queue(each) for each in MessageClass]


def port(url: str) -> int:
    found = URL(url).port
    assert found is not None
    return found


@pytest.fixture
def line(broker_pair: BrokerPair) -> Sockets:
    return Sockets(
        host="127.0.0.1", port=port(broker_pair.cloud_url), own_port=port(broker_pair.edge_url)
    )


@pytest.fixture
def broker(broker_pair: BrokerPair) -> Broker:
    return Broker(
        node=broker_pair.node,
        command=broker_pair.edge.asking("links-test"),
        port=port(broker_pair.cloud_url),
        own_port=port(broker_pair.edge_url),
    )


async def becomes(what: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that only another process can tell."""
    async with asyncio.timeout(SECONDS):
        while not await what():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.1)


@asynccontextmanager
async def waiting(url: str, exchange: str, key: str) -> AsyncIterator[aio_pika.abc.AbstractQueue]:
    """Have a queue of one's own for what comes under a key."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, key)
        yield queue


async def publish(url: str, exchange: str, key: str, body: bytes) -> None:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        where = await channel.get_exchange(exchange)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await where.publish(message, key, mandatory=True)


async def test_links_whose_connections_are_dropped_dial_anew_and_lose_nothing(
    broker_pair: BrokerPair, broker: Broker, line: Sockets
) -> None:
    async def linked() -> bool:
        # brokers, and the test's own connection, all on this machine
        return len(line.connections()) >= LINKS

    await becomes(linked)
    key = "node.edge-1.event.dropped"
    async with waiting(broker_pair.cloud_url, t.UP, key) as queue:
        for number in range(300):
            await publish(broker_pair.edge_url, t.UP, key, str(number).encode())
            if number == 100:
                assert int(await broker.drop_connections()) == LINKS
        arrived: set[bytes] = set()
        async with asyncio.timeout(SECONDS), queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                arrived.add(message.body)
                if len(arrived) == 300:
                    break
    assert arrived == {str(number).encode() for number in range(300)}


async def test_links_that_were_removed_are_made_anew_and_what_waited_arrives(
    broker_pair: BrokerPair, broker: Broker
) -> None:
    key = "node.edge-1.state.removed.links"
    upstream = upstream_name(broker_pair.node)

    async def bound() -> bool:
        try:
            await publish(broker_pair.cloud_url, t.DOWN, key, b"probe")
        except aio_pika.exceptions.DeliveryError:
            return False
        return True

    async with waiting(broker_pair.edge_url, t.DOWN, key) as queue:
        await becomes(bound)
        await broker_pair.edge.evaluate(
            'rabbit_runtime_parameters:clear_any(<<"/">>, <<"shovel">>, <<"up.event">>, <<"x">>),'
            ' rabbit_runtime_parameters:clear_any(<<"/">>, <<"federation-upstream">>,'
            f' <<"{upstream}">>, <<"x">>)'
        )
        await publish(broker_pair.cloud_url, t.DOWN, key, b"while it was away")
        answer = await broker.restore_links()
        assert "up.event" in answer
        assert upstream in answer
        async with asyncio.timeout(SECONDS), queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                if message.body == b"while it was away":
                    break

    async def complete() -> bool:
        return await broker.restore_links() == "[]"

    await becomes(complete)
    running = await broker_pair.edge.evaluate("rabbit_shovel_status:status()")
    assert all(name in running for name in SHOVELS)


async def test_broker_that_cannot_be_asked_is_named(broker_pair: BrokerPair) -> None:
    absent = Broker(node=broker_pair.node, command=["/nowhere/ctl"], port=1, own_port=2)
    with pytest.raises(UnavailableError, match="'/nowhere/ctl' did not reach"):
        await absent.restore_links()
    refusing = Broker(node=broker_pair.node, command=["false"], port=1, own_port=2)
    with pytest.raises(UnavailableError, match="answered"):
        await refusing.drop_connections()


async def test_line_is_reachable_while_somebody_listens(
    broker_pair: BrokerPair, line: Sockets, unused_tcp_port: int
) -> None:
    assert await line.is_reachable()
    nobody = Sockets(host="127.0.0.1", port=unused_tcp_port, own_port=port(broker_pair.edge_url))
    assert not await nobody.is_reachable()
    assert nobody.connections() == []
