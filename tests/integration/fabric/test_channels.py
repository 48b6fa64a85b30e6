"""Many messages at once on a real broker: what is not done comes again, what returns is told."""

import asyncio
import uuid

import pytest

from fedge_fabric import Envelope, UnroutableError
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_local import processes
from tests.fixtures.servers import Broker

pytestmark = pytest.mark.broker


def fabric_of(url: str) -> Fabric:
    return Fabric(url, service="test", exchanges=t.CLOUD_EXCHANGES)


def said(number: int) -> Envelope:
    return Envelope(type="fedge.test.said", source="/cloud/test", data=number)


async def test_only_what_is_not_done_comes_again_in_another_process(rabbitmq: Broker) -> None:
    name, count, kept = f"test.{uuid.uuid4().hex[:8]}", 100, {0, 40, 41, 99}
    queue = t.Queue(name, (t.Binding(t.REPORTED, f"{name}.#"),), prefetch=count)
    begun, begun_again = list[int](), list[int]()
    all_begun, all_again = asyncio.Event(), asyncio.Event()

    async def keep_some(delivery: Delivery) -> None:
        begun.append(delivery.envelope.data)
        if len(begun) == count:
            all_begun.set()
        if delivery.envelope.data in kept:
            await asyncio.Event().wait()

    async def take(delivery: Delivery) -> None:
        begun_again.append(delivery.envelope.data)
        if len(begun_again) == len(kept):
            all_again.set()

    first = fabric_of(rabbitmq.url)
    first.subscribe(queue, keep_some)
    async with asyncio.timeout(30):
        async with first.running():
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    group.create_task(
                        first.publish(said(number), exchange=t.REPORTED, routing_key=f"{name}.a")
                    )
            await all_begun.wait()
            assert begun == list(range(count))
            while first.statistics.handled < count - len(kept):  # noqa: ASYNC110 - counted, not told
                await asyncio.sleep(0.01)
            # an answer of the broker on the same connection: what was written before has arrived
            await first.depths([name])
        second = fabric_of(rabbitmq.url)
        second.subscribe(queue, take)
        async with second.running():
            await all_again.wait()
            depth = (await second.depths([name]))[name]
            assert depth.messages == 0
    assert sorted(begun_again) == sorted(kept)


async def test_of_many_messages_published_at_once_those_that_nothing_takes_are_told(
    rabbitmq: Broker,
) -> None:
    name, heard, done = f"test.{uuid.uuid4().hex[:8]}", list[int](), asyncio.Event()
    queue = t.Queue(name, (t.Binding(t.REPORTED, f"{name}.taken"),))

    async def take(delivery: Delivery) -> None:
        heard.append(delivery.envelope.data)
        if len(heard) == 25:
            done.set()

    fabric = fabric_of(rabbitmq.url)
    fabric.subscribe(queue, take)
    async with fabric.running(), asyncio.timeout(30):
        ended = await asyncio.gather(
            *(
                fabric.publish(
                    said(number),
                    exchange=t.REPORTED,
                    routing_key=f"{name}.{'lost' if number % 2 else 'taken'}",
                    mandatory=True,
                )
                for number in range(50)
            ),
            return_exceptions=True,
        )
        await done.wait()
    assert [isinstance(each, UnroutableError) for each in ended] == [False, True] * 25
    assert sorted(heard) == list(range(0, 50, 2))


async def test_service_ends_at_whatever_instant_of_a_question_it_is_stopped(
    rabbitmq: Broker,
) -> None:
    for instant in range(120):
        fabric = fabric_of(rabbitmq.url)
        asking = asyncio.Event()

        async def serve(fabric: Fabric = fabric, asking: asyncio.Event = asking) -> None:
            async with fabric.running():
                asking.set()
                while True:
                    await fabric.depths([t.DEAD, "test.none", t.DEAD])

        async with asyncio.timeout(30):
            task = asyncio.create_task(serve())
            await asking.wait()
            for _ in range(instant):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled()


async def test_question_that_was_given_up_leaves_the_next_its_answer(rabbitmq: Broker) -> None:
    fabric = fabric_of(rabbitmq.url)
    async with asyncio.timeout(60), fabric.running():
        for instant in range(120):
            asking = asyncio.create_task(fabric.depths(["test.none", t.DEAD]))
            for _ in range(instant):
                await asyncio.sleep(0)
            asking.cancel()
            assert set(await fabric.depths(["test.none", t.DEAD])) == {t.DEAD}


async def test_service_ends_though_its_broker_stands_still(rabbitmq: Broker) -> None:
    fabric = fabric_of(rabbitmq.url)
    name = f"test.{uuid.uuid4().hex[:8]}"

    async def take(_: Delivery) -> None: ...

    for each in ("a", "b", "c"):
        fabric.subscribe(
            t.Queue(f"{name}.{each}", (t.Binding(t.REPORTED, f"{name}.{each}"),)), take
        )
    serving = asyncio.Event()

    async def serve() -> None:
        async with fabric.running():
            serving.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    async with asyncio.timeout(30):
        await serving.wait()
    broker = rabbitmq.server.process
    assert broker is not None
    await processes.pause(broker)
    try:
        task.cancel()
        await asyncio.wait({task}, timeout=20)
        assert task.cancelled()
    finally:
        processes.resume(broker)
