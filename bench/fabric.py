"""How many messages pass between an edge and the cloud, and how long one takes.

Beside each way lies a bare one in the same run: the same bodies published with aio-pika
(persistent, confirms, the same window in flight), carried by the same shovel or federation link,
and consumed with aio-pika (same prefetch, acknowledged one by one). It has no headers but what the
library sets. Ours adds what the services do: envelopes made and read, trace context, numbers, order
per key, recognising repeats.

A state is also timed alone: while nothing else passes, and while telemetry of an outage goes up.
"""

import argparse
import asyncio
import dataclasses
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import aio_pika

from bench.reporting import tell
from fedge_fabric import Address, Envelope, MessageClass, envelope_of
from fedge_fabric import topology as t
from fedge_fabric.definitions import User, cloud_definitions, edge_definitions
from fedge_fabric.envelope import CONTENT_TYPE
from fedge_fabric.fabric import Delivery, Fabric
from fedge_fabric.streams import Inbox, Numbering
from fedge_local.processes import Machine
from fedge_local.rabbitmq import EDGE_PLUGINS, RabbitMQ
from fedge_objects import Change, NodeName, ObjectKey, Version

NODE = NodeName("edge-1")
ADMIN = User(name="fedge", password="fedge")  # noqa: S106 - for this run
LINK = User(name=NODE, password="link")  # noqa: S106
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
WINDOW = 256
MESSAGES = 5_000
ROUNDS = 11
PINGS = 300
BACKLOG = 60_000
KEYS = 20
READING = {"value": 21.5, "unit": "C", "at": "2026-01-01T10:00:00Z", "more": "x" * 200}
MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": "default", "uid": "7c8f"},
    "data": {"settings.ini": "x" * 300},
}
EVENTS = dataclasses.replace(t.hub_up(MessageClass.EVENT), prefetch=WINDOW)
OBJECTS = dataclasses.replace(t.meta_state(NODE), prefetch=WINDOW)
_PORTS = 5


def event(
    numbering: Numbering, number: int, traceparent: str = TRACEPARENT
) -> tuple[Envelope, str]:
    """Return an event as a service of the edge makes it, and its address."""
    key = f"meter-{number % KEYS}"
    envelope = Envelope(
        type="fedge.bench.measured",
        source=f"/node/{NODE}/bench",
        subject=key,
        data=READING,
        traceparent=traceparent,
    )
    return numbering.number(envelope), str(Address(NODE, MessageClass.EVENT, ("bench", key)))


def change(number: int, traceparent: str = TRACEPARENT) -> tuple[Envelope, str]:
    """Return a changed object as hub sends it, and its address."""
    key = ObjectKey("configmaps", "default", f"settings-{number % KEYS}")
    version = Version(number + 1, number + 1)
    envelope = envelope_of(
        Change(key=key, version=version, object=MAP, traceparent=traceparent), source="/cloud/hub"
    )
    return envelope, str(Address.of_object(NODE, key))


def made(way: str, number: int, numbering: Numbering) -> tuple[Envelope, str]:
    """Return the message number so-and-so of a way."""
    return event(numbering, number) if way == "up" else change(number)


async def publish_ours(url: str, way: str, count: int) -> None:
    """Publish with the fabric, a window in flight."""
    exchanges = t.EDGE_EXCHANGES if way == "up" else t.CLOUD_EXCHANGES
    exchange, numbering = (t.UP if way == "up" else t.DOWN), Numbering("bench")
    fabric = Fabric(url, service="bench", exchanges=exchanges)

    async def one(number: int) -> None:
        envelope, key = made(way, number, numbering)
        await fabric.publish(envelope, exchange=exchange, routing_key=key, mandatory=way == "down")

    async with fabric.running():
        await told_to_begin()
        await windowed(one, count)


async def publish_bare(url: str, way: str, count: int) -> None:
    """Publish the same body with aio-pika alone, the same window in flight."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.get_exchange(t.UP if way == "up" else t.DOWN)
        envelope, key = made(way, 0, Numbering("bench"))
        body = envelope.body()[0]

        async def one(_: int) -> None:
            message = aio_pika.Message(
                body,
                content_type=CONTENT_TYPE,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await exchange.publish(message, key, mandatory=way == "down")

        await told_to_begin()
        await windowed(one, count)


async def told_to_begin() -> None:
    """Say that all is connected and wait for a line, so that no start is measured."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def windowed(one: Callable[[int], Awaitable[None]], count: int) -> None:
    """Do something so many times, a window of it in flight at each moment."""
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await one(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(WINDOW):
            group.create_task(some())


async def consume_ours(url: str, way: str, count: int) -> None:
    """Consume with the fabric, recognising repeats, until so many came."""
    inbox, versions, done = Inbox(), dict[str, Version](), asyncio.Event()
    left = count

    async def take(delivery: Delivery) -> None:
        nonlocal left
        envelope = delivery.envelope
        if way == "up":
            is_new = inbox.add(envelope)
        else:
            known, version = versions.get(envelope.subject), envelope.version
            is_new = version is not None and (known is None or version > known)
            if is_new and version is not None:
                versions[envelope.subject] = version
        left -= is_new
        if not left:
            done.set()

    exchanges = t.CLOUD_EXCHANGES if way == "up" else t.EDGE_EXCHANGES
    fabric = Fabric(url, service="bench", exchanges=exchanges)
    fabric.subscribe(EVENTS if way == "up" else OBJECTS, take)
    async with fabric.running():
        print("ready", flush=True)
        await done.wait()
        print("done", flush=True)


async def consume_bare(url: str, way: str, count: int) -> None:
    """Consume with aio-pika alone until so many came."""
    done, left = asyncio.Event(), count

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal left
        await message.ack()
        left -= 1
        if not left:
            done.set()

    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(WINDOW)
        queue = await channel.get_queue((EVENTS if way == "up" else OBJECTS).name)
        await queue.consume(take)
        print("ready", flush=True)
        await done.wait()
        print("done", flush=True)


ROLES = {
    "publish-ours": publish_ours,
    "publish-bare": publish_bare,
    "consume-ours": consume_ours,
    "consume-bare": consume_bare,
}


class Pair:
    """The cloud's broker and an edge's, linked over loopback."""

    module = "bench.fabric"
    """Whose roles publish and consume."""
    messages = MESSAGES
    """How many, to measure a rate."""

    def __init__(self, folder: Path) -> None:
        sockets = [socket.socket() for _ in range(_PORTS)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        amqp, dist, edge_amqp, edge_dist, mqtt = (each.getsockname()[1] for each in sockets)
        for each in sockets:
            each.close()
        self.cloud = RabbitMQ(
            name="cloud",
            folder=folder / "cloud",
            place=Machine(),
            definitions=cloud_definitions(admin=ADMIN, nodes={NODE: LINK}),
            listen=[("127.0.0.1", amqp)],
            dist_port=dist,
        )
        self.edge = RabbitMQ(
            name="edge",
            folder=folder / "edge",
            place=Machine(),
            definitions=edge_definitions(
                node=NODE, admin=ADMIN, link=LINK, cloud=f"127.0.0.1:{amqp}"
            ),
            plugins=EDGE_PLUGINS,
            listen=[("127.0.0.1", edge_amqp)],
            mqtt=("127.0.0.1", mqtt),
            dist_port=edge_dist,
        )
        self.cloud_url = f"amqp://{ADMIN.name}:{ADMIN.password}@127.0.0.1:{amqp}/"
        self.edge_url = f"amqp://{ADMIN.name}:{ADMIN.password}@127.0.0.1:{edge_amqp}/"

    async def start(self) -> None:
        """Start both and wait for the links."""
        await asyncio.gather(self.cloud.start(), self.edge.start())
        await asyncio.gather(self.cloud.ready(), self.edge.ready())
        await self.linked()

    async def linked(self) -> None:
        """Wait until a message passes each way."""
        async with asyncio.timeout(60):
            for way in ("up", "down"):
                while await self._pings(way, 1) is None:
                    pass

    async def kill(self) -> None:
        """End both."""
        await asyncio.gather(self.cloud.kill(), self.edge.kill())

    def urls(self, way: str) -> tuple[str, str]:
        """Return where one publishes and where one consumes."""
        return (self.edge_url, self.cloud_url) if way == "up" else (self.cloud_url, self.edge_url)

    async def rate(self, way: str, kind: str) -> float:
        """Return how many messages a second pass."""
        source, target = self.urls(way)
        consumer = await self._spawn(f"consume-{kind}", target, way, self.messages)
        publisher = await self._spawn(f"publish-{kind}", source, way, self.messages)
        began = await begin(publisher)
        await line(consumer, "done")
        seconds = time.perf_counter() - began
        assert await publisher.wait() == 0
        assert await consumer.wait() == 0
        return self.messages / seconds

    @asynccontextmanager
    async def backlog(self) -> AsyncIterator[None]:
        """Have telemetry go up that gathered at the edge while the cloud was away."""
        await self.cloud.kill()
        publisher = await self._spawn("publish-ours", self.edge_url, "up", BACKLOG)
        await begin(publisher)
        assert await publisher.wait() == 0
        await self.cloud.start()
        await self.cloud.ready()
        consumer = await self._spawn("consume-ours", self.cloud_url, "up", BACKLOG)
        try:
            await self.linked()
            yield
            queue = t.up_queue(MessageClass.EVENT)
            edge = Fabric(self.edge_url, service="bench", exchanges=t.EDGE_EXCHANGES)
            async with edge.running():
                left = (await edge.depths([queue]))[queue].messages
            print(f"{left} of {BACKLOG} still wait", flush=True)
            assert left, "the backlog is gone before the end: measure fewer messages or more of it"
        finally:
            consumer.kill()
            await consumer.wait()

    async def pings(self, way: str, count: int) -> list[float]:
        """Return how long each of so many messages took, one after the other, in seconds."""
        found = await self._pings(way, count)
        assert found is not None
        return found

    async def _pings(self, way: str, count: int) -> list[float] | None:
        """Return the times; None if one did not arrive."""
        source, target = self.urls(way)
        arrived: asyncio.Queue[str] = asyncio.Queue()

        async def take(delivery: Delivery) -> None:
            arrived.put_nowait(delivery.envelope.id)

        into, out = (
            (t.EDGE_EXCHANGES, t.CLOUD_EXCHANGES)
            if way == "up"
            else (t.CLOUD_EXCHANGES, t.EDGE_EXCHANGES)
        )
        publisher = Fabric(source, service="ping", exchanges=into)
        consumer = Fabric(target, service="pong", exchanges=out)
        # a state up has its own queue beside that of the events, as on the way to hub
        queue = t.hub_up(MessageClass.STATE) if way == "up" else OBJECTS
        consumer.subscribe(queue, take)
        found, base = [], time.time_ns() // 1000
        async with publisher.running(), consumer.running():
            for number in range(count):
                envelope, key = change(base + number)
                began = time.perf_counter()
                try:
                    async with asyncio.timeout(5):
                        await publisher.publish(
                            envelope,
                            exchange=t.UP if way == "up" else t.DOWN,
                            routing_key=key,
                            mandatory=True,
                        )
                        while await arrived.get() != envelope.id:
                            pass
                except Exception as exc:  # noqa: BLE001 - the links are not there yet
                    print(f"waiting for the links: {exc!r}", flush=True)
                    return None
                found.append(time.perf_counter() - began)
        return found

    async def _spawn(self, role: str, url: str, way: str, count: int) -> asyncio.subprocess.Process:
        """Start a process and wait until it is connected."""
        argv = ["-m", self.module, "--role", role, "--way", way, "--count", str(count)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "BENCH_URL": url},
        )
        await line(process, "ready")
        return process


async def begin(publisher: asyncio.subprocess.Process) -> float:
    """Have it publish; return the time by the clock that measures."""
    assert publisher.stdin is not None
    began = time.perf_counter()
    publisher.stdin.write(b"go\n")
    await publisher.stdin.drain()
    return began


async def line(process: asyncio.subprocess.Process, wanted: str) -> None:
    """Wait until a process has said a word, whatever it logs before."""
    assert process.stdout is not None
    async with asyncio.timeout(300):
        while (said := (await process.stdout.readline()).decode().strip()) != wanted:
            assert said or not process.stdout.at_eof(), f"it ended before it was {wanted}"


def milliseconds(seconds: list[float], part: float) -> float:
    """Return a quantile in milliseconds."""
    return round(statistics.quantiles(seconds, n=1000)[round(part * 1000) - 1] * 1000, 1)


async def main() -> None:
    """Measure and tell."""
    rates: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="fedge-bench-", dir="/var/tmp") as folder:
        pair = Pair(Path(folder))
        try:
            await pair.start()
            for number in range(ROUNDS + 1):
                for way in ("up", "down"):
                    # in turns, so that neither has the better half of what else the machine does
                    for kind in ("bare", "ours") if number % 2 else ("ours", "bare"):
                        rate = await pair.rate(way, kind)
                        print(f"round {number}: {way} {kind} {rate:.0f}/s", flush=True)
                        if number:  # the first warms up
                            rates.setdefault((way, kind), []).append(rate)
            idle = await pair.pings("up", PINGS) + await pair.pings("down", PINGS)
            async with pair.backlog():
                loaded = await pair.pings("down", PINGS) + await pair.pings("up", PINGS)
        finally:
            await pair.kill()
    middle = {key: round(median(each)) for key, each in rates.items()}
    tell(
        "fabric",
        {
            "up_ratio": ratio(rates["up", "ours"], rates["up", "bare"]),
            "down_ratio": ratio(rates["down", "ours"], rates["down", "bare"]),
            "up_per_s": middle["up", "ours"],
            "down_per_s": middle["down", "ours"],
            "bare_up_per_s": middle["up", "bare"],
            "bare_down_per_s": middle["down", "bare"],
            "p50_ms": milliseconds(idle, 0.5),
            "p99_ms": milliseconds(idle, 0.99),
            "loaded_p50_ms": milliseconds(loaded, 0.5),
            "loaded_p99_ms": milliseconds(loaded, 0.99),
            "loaded_worst_ms": round(max(loaded) * 1000, 1),
        },
    )


def ratio(ours: list[float], bare: list[float]) -> float:
    """Return the middle one of the rounds' ratios: what lies side by side has the same noise."""
    return round(median(mine / other for mine, other in zip(ours, bare, strict=True)), 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the way between edge and cloud.")
    parser.add_argument("--role", choices=ROLES)
    parser.add_argument("--way", choices=("up", "down"), default="up")
    parser.add_argument("--count", type=int, default=MESSAGES)
    arguments = parser.parse_args()
    if arguments.role:
        asyncio.run(ROLES[arguments.role](os.environ["BENCH_URL"], arguments.way, arguments.count))
    else:
        asyncio.run(main())
