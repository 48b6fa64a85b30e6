"""What stands for the broker: keeps what is subscribed and what is published."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import aio_pika

from fedge_fabric import Envelope
from fedge_fabric.depths import Depth
from fedge_fabric.fabric import Delivery, Fabric, Handler
from fedge_fabric.topology import Queue

DEADLINE_SECONDS = 20.0


class Line:
    """Takes what can be written as AMQP, and nothing else."""

    def __init__(self) -> None:
        self.subscribed: list[tuple[Queue, Handler]] = []
        self.sent: list[tuple[str, Envelope]] = []
        self._news = asyncio.Event()

    @property
    def fabric(self) -> Fabric:
        return cast("Fabric", self)

    def subscribe(self, queue: Queue, handler: Handler) -> None:
        self.subscribed.append((queue, handler))

    async def publish(
        self, envelope: Envelope, *, exchange: str, routing_key: str, **_: object
    ) -> None:
        assert len(routing_key.encode()) <= 255
        message = aio_pika.Message(
            envelope.body()[0],
            headers=dict(envelope.headers()),
            message_id=envelope.id,
            timestamp=envelope.time,
            type=envelope.type,
        )
        assert message.properties.marshal()
        self.sent.append((f"{exchange} {routing_key}", envelope))
        self._news.set()

    async def hand_on(self, delivery: Delivery, queue: Queue) -> None:
        await self.publish(delivery.envelope, exchange="", routing_key=queue.name)

    async def depths(self, queues: Iterable[str]) -> Mapping[str, Depth]:
        return dict.fromkeys(queues, Depth(messages=0, consumers=1))

    def told(self, kind: str, subject: str) -> list[Envelope]:
        """Return what was published of a kind about something."""
        return [each for _, each in self.sent if (each.type, each.subject) == (kind, subject)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that shows in what is published."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()
