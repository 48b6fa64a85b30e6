"""Several hubs on one broker and one Redis: whichever takes an answer, it reaches who asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
import pytest
from pydantic import SecretStr

from fedge_fabric import Address, Envelope, MessageClass, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_hub import plugin as hub
from fedge_hub.settings import HubSettings
from fedge_objects import NodeName
from fedge_service import backoff
from tests.fixtures.servers import Broker, free_ports

pytestmark = [pytest.mark.broker, pytest.mark.redis]

NODE = NodeName("gw-of-three-hubs")
DEADLINE_SECONDS = 30.0
PIECES = 40
NOT_HEARD_YET = 503


@asynccontextmanager
async def hubs(url: str, redis_url: str, number: int) -> AsyncIterator[list[str]]:
    """Run hubs; yield where each answers HTTP."""
    ports = free_ports(number)
    ready = [asyncio.Event() for _ in ports]
    running = [
        asyncio.create_task(
            hub.run(
                HubSettings(
                    amqp_url=SecretStr(url), redis_url=SecretStr(redis_url), http_port=port
                ),
                each.set,
            )
        )
        for port, each in zip(ports, ready, strict=True)
    ]
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            for each in ready:
                await each.wait()
        yield [f"http://127.0.0.1:{port}" for port in ports]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def answer(fabric: Fabric, delivery: Delivery) -> None:
    """Answer a question for a log, as the node, in many pieces."""
    if delivery.envelope.type != kinds.LOGS_ASKED:
        return
    for index in range(PIECES):
        data = {"status": 200, "body": f"{index}\n", "index": index, "last": index == PIECES - 1}
        await say(fabric, kinds.ANSWERED, MessageClass.REQUEST, delivery.envelope.id, data)


async def say(
    fabric: Fabric, kind: str, message_class: MessageClass, subject: str, data: object
) -> None:
    word = "answer" if message_class is MessageClass.REQUEST else "alive"
    await fabric.publish(
        Envelope(type=kind, source=f"/node/{NODE}/edged", subject=subject, data=data),
        exchange=t.UP,
        routing_key=str(Address(NODE, message_class, (word,))),
        mandatory=True,
    )


async def test_whichever_hub_takes_the_pieces_of_an_answer_they_reach_the_one_that_asked(
    rabbitmq: Broker, redis_url: str
) -> None:
    node = Fabric(rabbitmq.url, service="test", exchanges=t.CLOUD_EXCHANGES)
    mine = t.Queue(f"test.{NODE}", (t.Binding(t.DOWN, f"node.{NODE}.#"),), exclusive=True)
    node.subscribe(mine, partial(answer, node))
    async with hubs(rabbitmq.url, redis_url, 3) as urls, node.running():
        await say(node, kinds.NODE_ALIVE, MessageClass.STATE, "", {"interval_seconds": 600.0})
        async with aiohttp.ClientSession() as http:
            path = f"/nodes/{NODE}/containerLogs/default/a/main"
            async with asyncio.timeout(DEADLINE_SECONDS):
                for url in urls:
                    async for _ in backoff(first_seconds=0.05, most_seconds=0.5):
                        async with http.get(f"{url}{path}") as response:
                            if response.status != NOT_HEARD_YET:
                                break
                answers = await asyncio.gather(*(read(http, f"{url}{path}") for url in urls * 4))
    whole = "".join(f"{index}\n" for index in range(PIECES))
    assert answers == [whole] * 12


async def read(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as response:
        return await response.text()
