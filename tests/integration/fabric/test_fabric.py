"""Publishing and consuming on a real RabbitMQ, and the way between two of them."""

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable
from unittest.mock import ANY

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused

from fedge_fabric import (
    Address,
    Envelope,
    InvalidError,
    MessageClass,
    UnavailableError,
    UnroutableError,
    envelope_of,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.definitions import link_queue
from fedge_fabric.depths import Depth
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import Change, NodeName, ObjectKey, Version
from tests.fixtures.servers import Broker, BrokerPair

pytestmark = pytest.mark.broker

KEY = "node.edge-1.state.pods.d.a"


def new_queue() -> t.Queue:
    name = f"test.{uuid.uuid4().hex[:8]}"
    return t.Queue(name, (t.Binding(t.REPORTED, f"{name}.#"),))


def new_envelope(data: object = None) -> Envelope:
    return Envelope(type="fedge.test.said", source="/cloud/test", data=data)


class Heard:
    """A handler that keeps what it hears, and does as it is told with it."""

    def __init__(self, *answers: Exception | None) -> None:
        self.queue: asyncio.Queue[Delivery] = asyncio.Queue()
        self._answers = list(answers)

    async def __call__(self, delivery: Delivery) -> None:
        self.queue.put_nowait(delivery)
        answer = self._answers.pop(0) if self._answers else None
        if answer is not None:
            raise answer

    async def next(self) -> Delivery:
        async with asyncio.timeout(20):
            return await self.queue.get()


def fabric_of(url: str) -> Fabric:
    return Fabric(url, service="test", exchanges=t.CLOUD_EXCHANGES)


async def take_dead(url: str, queue: str) -> aio_pika.abc.AbstractIncomingMessage:
    """Wait for the dead letter of ``queue``, leaving others where they are."""
    connection = await aio_pika.connect(url)
    async with connection, asyncio.timeout(20):
        channel = await connection.channel()
        exchange = await channel.get_exchange(t.DEAD)
        own = await channel.declare_queue(exclusive=True)
        await own.bind(exchange, queue)
        dead = await channel.get_queue(t.DEAD)
        async with dead.iterator() as letters:
            async for message in letters:
                await message.ack()
                if message.headers["fedge-queue"] == queue:
                    return message
    raise AssertionError("no dead letter")


async def test_message_is_heard_as_it_was_said(rabbitmq: Broker) -> None:
    queue, heard = new_queue(), Heard()
    fabric = fabric_of(rabbitmq.url)
    fabric.subscribe(queue, heard)
    async with fabric.running():
        said = new_envelope({"big": "x" * 100_000})
        await fabric.publish(said, exchange=t.REPORTED, routing_key=f"{queue.name}.a")
        delivery = await heard.next()
        assert delivery == Delivery(f"{queue.name}.a", said)


async def test_message_that_no_queue_takes_is_an_error_if_one_must(rabbitmq: Broker) -> None:
    fabric = fabric_of(rabbitmq.url)
    async with fabric.running():
        await fabric.publish(new_envelope(), exchange=t.REPORTED, routing_key="nobody")
        with pytest.raises(UnroutableError, match="'nobody'"):
            await fabric.publish(
                new_envelope(), exchange=t.REPORTED, routing_key="nobody", mandatory=True
            )


@pytest.mark.parametrize(
    ("cause", "attempts"),
    [(UnavailableError("away"), 2), (RuntimeError("a defect"), 2)],
    ids=["unavailable", "unexpected"],
)
async def test_message_that_could_not_be_handled_comes_again_unchanged(
    rabbitmq: Broker, cause: Exception, attempts: int
) -> None:
    queue, heard = new_queue(), Heard(cause)
    fabric = fabric_of(rabbitmq.url)
    fabric.subscribe(queue, heard)
    async with fabric.running():
        said = new_envelope([1, 2])
        await fabric.publish(said, exchange=t.REPORTED, routing_key=f"{queue.name}.a")
        deliveries = [await heard.next() for _ in range(attempts)]
        assert deliveries == [Delivery(f"{queue.name}.a", said)] * attempts
        assert fabric.statistics.retried == 1


async def test_refused_message_is_put_aside_with_its_reason_and_others_go_on(
    rabbitmq: Broker,
) -> None:
    queue, heard = new_queue(), Heard(InvalidError("speaks for another"))
    fabric = fabric_of(rabbitmq.url)
    fabric.subscribe(queue, heard)
    async with fabric.running():
        refused, good = new_envelope("refused"), new_envelope("good")
        await fabric.publish(refused, exchange=t.REPORTED, routing_key=f"{queue.name}.a")
        await heard.next()
        await fabric.publish(good, exchange=t.REPORTED, routing_key=f"{queue.name}.a")
        assert (await heard.next()).envelope == good
        letter = await take_dead(rabbitmq.url, queue.name)
        assert letter.headers["fedge-reason"] == "speaks for another"
        assert letter.headers["fedge-key"] == f"{queue.name}.a"
        assert letter.message_id == refused.id
        assert fabric.statistics.dead_lettered == 1


ALIEN: dict[str, Callable[[aio_pika.abc.AbstractExchange, str], Awaitable[object]]] = {
    "no headers": lambda to, key: to.publish(aio_pika.Message(b"{}"), key),
    "not JSON": lambda to, key: to.publish(
        aio_pika.Message(b"{", headers=dict(new_envelope().headers())), key
    ),
    "broken zstd": lambda to, key: to.publish(
        aio_pika.Message(b"{}", headers=dict(new_envelope().headers()), content_encoding="zstd"),
        key,
    ),
    "headers of other types": lambda to, key: to.publish(
        aio_pika.Message(b"{}", headers={"cloudEvents_id": 1, "fedge-attempt": "many"}), key
    ),
}


@pytest.mark.parametrize("publish", ALIEN.values(), ids=ALIEN)
async def test_alien_message_is_put_aside_and_the_next_is_heard(
    rabbitmq: Broker,
    publish: Callable[[aio_pika.abc.AbstractExchange, str], Awaitable[object]],
) -> None:
    queue, heard = new_queue(), Heard()
    fabric = fabric_of(rabbitmq.url)
    fabric.subscribe(queue, heard)
    async with fabric.running():
        connection = await aio_pika.connect(rabbitmq.url)
        async with connection:
            channel = await connection.channel()
            await publish(await channel.get_exchange(t.REPORTED), f"{queue.name}.a")
        letter = await take_dead(rabbitmq.url, queue.name)
        assert letter.headers["fedge-reason"]
        good = new_envelope("good")
        await fabric.publish(good, exchange=t.REPORTED, routing_key=f"{queue.name}.a")
        assert (await heard.next()).envelope == good


async def test_object_travels_down_and_a_report_up(broker_pair: BrokerPair) -> None:
    node = NodeName(broker_pair.node)
    down, up = Heard(), Heard()
    cloud = fabric_of(broker_pair.cloud_url)
    edge = Fabric(broker_pair.edge_url, service="test", exchanges=t.EDGE_EXCHANGES)
    cloud.subscribe(t.hub_up(MessageClass.STATE), up)
    edge.subscribe(t.meta_state(node), down)
    async with cloud.running(), edge.running():
        change = Change(
            key=ObjectKey("pods", "d", "a"),
            version=Version(7, 7),
            object={"metadata": {"name": "a"}, "filler": "x" * 50_000},
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        sent = envelope_of(change, source="/cloud/hub")
        address = Address.of_object(node, change.key)
        await _until_routable(cloud, sent, str(address))
        received = await down.next()
        assert received.envelope == sent
        assert received.routing_key == str(address)

        alive = Envelope(type=kinds.NODE_ALIVE, source=f"/node/{node}/edged", data={"n": 1})
        await edge.publish(alive, exchange=t.UP, routing_key=f"node.{node}.state.alive")
        assert (await up.next()).envelope == alive


async def _until_routable(cloud: Fabric, envelope: Envelope, key: str) -> None:
    """Publish as soon as the federation link has made its queue."""
    async with asyncio.timeout(30):
        while True:
            try:
                await cloud.publish(envelope, exchange=t.DOWN, routing_key=key, mandatory=True)
            except UnroutableError:
                await asyncio.sleep(0.1)
            else:
                return


async def test_link_user_can_neither_speak_nor_listen_for_another_node(
    broker_pair: BrokerPair,
) -> None:
    url = broker_pair.cloud_url.replace("fedge:fedge-admin@", "edge-1:fedge-link@")
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        up = await channel.get_exchange(t.UP, ensure=False)
        await up.publish(aio_pika.Message(b""), "node.edge-1.spans.mine")
        with pytest.raises(ChannelAccessRefused):
            await up.publish(aio_pika.Message(b""), "node.edge-2.spans.not-mine")
        channel = await connection.channel()
        with pytest.raises(ChannelAccessRefused):
            await channel.declare_queue("mine", durable=True)


@pytest.mark.parametrize("persistent", [True, False])
async def test_what_is_not_to_outlive_the_broker_says_so(
    rabbitmq: Broker, persistent: bool
) -> None:
    fabric, key = fabric_of(rabbitmq.url), f"test.{uuid.uuid4().hex[:8]}"
    connection = await aio_pika.connect(rabbitmq.url)
    async with connection, fabric.running():
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(t.REPORTED, key)
        said = Envelope(type=kinds.NODE_ALIVE, source="/node/edge-1/edged", data={})
        await fabric.publish(
            said, exchange=t.REPORTED, routing_key=key, mandatory=True, persistent=persistent
        )
        message = await queue.get(no_ack=True)
        assert message is not None
        mode = aio_pika.DeliveryMode.PERSISTENT if persistent else 1
        assert message.delivery_mode == mode


async def test_messages_of_a_key_keep_their_order_whatever_fails(rabbitmq: Broker) -> None:
    name = f"test.{uuid.uuid4().hex[:8]}"
    queue = t.Queue(name, (t.Binding(t.REPORTED, f"{name}.#"),), ordered=True)
    taken: dict[str, list[int]] = {}
    fails = {("a", 3): 2, ("b", 0): 1, ("b", 1): 1}
    running, done = set[str](), asyncio.Event()

    async def take(delivery: Delivery) -> None:
        key, number = delivery.envelope.data
        assert key not in running
        running.add(key)
        try:
            await asyncio.sleep(0)
            left = fails.get((key, number), 0)
            if left:
                fails[key, number] = left - 1
                raise UnavailableError("away") if key == "a" else RuntimeError("a defect")
            taken.setdefault(key, []).append(number)
        finally:
            running.discard(key)
        if sum(map(len, taken.values())) == 60:
            done.set()

    fabric = fabric_of(rabbitmq.url)
    fabric.subscribe(queue, take)
    async with fabric.running(), asyncio.timeout(30):
        for number in range(20):
            for key in "abc":
                await fabric.publish(
                    new_envelope([key, number]), exchange=t.REPORTED, routing_key=f"{name}.{key}"
                )
        await done.wait()
    assert taken == {key: list(range(20)) for key in "abc"}


async def test_refused_message_of_an_ordered_queue_lets_the_next_pass(rabbitmq: Broker) -> None:
    name = f"test.{uuid.uuid4().hex[:8]}"
    queue = t.Queue(name, (t.Binding(t.REPORTED, f"{name}.#"),), ordered=True)
    heard = Heard(InvalidError("never"), None)
    fabric = fabric_of(rabbitmq.url)
    fabric.subscribe(queue, heard)
    async with fabric.running():
        for number in range(2):
            await fabric.publish(new_envelope(number), exchange=t.REPORTED, routing_key=f"{name}.a")
        assert [(await heard.next()).envelope.data for _ in range(2)] == [0, 1]
        assert fabric.statistics.dead_lettered == 1


async def test_depth_of_what_waits_for_a_node_is_told(broker_pair: BrokerPair) -> None:
    waiting = link_queue(broker_pair.node)
    fabric = fabric_of(broker_pair.cloud_url)
    async with fabric.running(), asyncio.timeout(30):
        while not await fabric.depths([waiting]):  # noqa: ASYNC110 - the link is being made
            await asyncio.sleep(0.05)


async def test_depth_of_queues_is_told_and_missing_ones_are_left_out(rabbitmq: Broker) -> None:
    queue, blocked = new_queue(), asyncio.Event()

    async def block(_: Delivery) -> None:
        await blocked.wait()

    fabric = fabric_of(rabbitmq.url)
    fabric.subscribe(dataclasses.replace(queue, prefetch=1), block)
    async with fabric.running():
        for number in range(3):
            await fabric.publish(
                new_envelope(number), exchange=t.REPORTED, routing_key=f"{queue.name}.a"
            )
        async with asyncio.timeout(10):
            # the broker tells only when asked
            while (await fabric.depths([queue.name]))[queue.name] != Depth(2, 1):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await fabric.depths(["test.none", t.DEAD, "test.nor"]) == {t.DEAD: ANY}
        blocked.set()
