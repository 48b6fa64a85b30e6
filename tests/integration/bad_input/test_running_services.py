"""Bad messages at the real queues of running services: put aside with a reason, and all goes on."""

import asyncio
import struct
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aiormq.exceptions import AMQPError
from pamqp.commands import Basic

from fedge_fabric import Envelope, kinds
from fedge_fabric import topology as t
from fedge_fabric.topology import Queue
from tests.fixtures.servers import SharedBroker
from tests.integration.bad_input.system import System, system
from tests.unit.bad_input.mutations import Sample, bomb
from tests.unit.bad_input.test_queues import SAMPLES

pytestmark = [pytest.mark.broker, pytest.mark.redis]

DEADLINE_SECONDS = 30.0
MARK = "test-mark"
GOOD = Envelope(type="fedge.test.alien", source="/node/edge-1/edged", data={})
HEADERS = dict(GOOD.headers())
MALFORMED: Mapping[str, dict[str, Any]] = {
    "empty": {"body": b""},
    "no headers": {"headers": {}},
    "bytes": {"body": b"\xff\x00" * 100},
    "truncated": {"body": b'{"a": [1, 2'},
    "deep": {"body": b"[" * 200_000},
    "deep but whole": {"body": b"[" * 900 + b"]" * 900},
    "huge": {"body": b'"' + b" " * (9 * 2**20) + b'"'},
    "bomb": {"body": bomb(), "content_encoding": "zstd"},
    "no zstd": {"body": b"{}", "content_encoding": "zstd"},
    "unknown encoding": {"body": b"{}", "content_encoding": "\u202e" * 80},
    "version": {"headers": {**HEADERS, "cloudEvents_specversion": "2.0"}},
    "time": {"headers": {**HEADERS, "cloudEvents_time": "9999-12-31T23:59:59-23:59"}},
    "long id": {"headers": {**HEADERS, "cloudEvents_id": "x" * 10_000}},
    "types": {
        "headers": {
            "cloudEvents_id": 7,
            "cloudEvents_type": {"a": {"b": [1, None, 1.5]}},
            "cloudEvents_source": bytearray(b"\xff"),
            "cloudEvents_time": GOOD.time,
            "fedge-attempt": -(2**62),
            "fedge-key": [1],
        }
    },
    "alien kind": {},
    "routes of its own": {"headers": {**HEADERS, "CC": ["hub.wanted"], "BCC": ["meta.state"]}},
    "properties": {
        "message_id": None,
        "correlation_id": "x" * 255,
        "reply_to": "amq.rabbitmq.reply-to.x",
        "priority": 255,
        "type": "\0" * 255,
        "app_id": "\U0001f4a5" * 60,
        "expiration": 3_600_000,
    },
    "key of 255 bytes": {"routing_key": "x" * 255},
}
"""By what is wrong; each is refused by whatever queue it comes to."""
READABLE = {"alien kind", "routes of its own", "properties", "key of 255 bytes"}
"""These are events of a kind that nobody knows."""


class Properties(Basic.Properties):
    """Properties as no library of ours writes them."""

    def __init__(self, flags: int, raw: bytes) -> None:
        super().__init__()
        self._raw = struct.pack(">H", flags) + raw

    def marshal(self) -> bytes:
        return self._raw


def _table(fields: bytes) -> bytes:
    return struct.pack(">I", len(fields)) + fields


def _deep_table() -> bytes:
    fields = b""
    for _ in range(3000):
        fields = b"\x01aF" + _table(fields)
    return _table(fields)


RAW: Mapping[str, Properties] = {
    "type is no UTF-8": Properties(1 << 5, b"\x02\xff\xfe"),
    "id is no UTF-8": Properties(1 << 7, b"\x02\xff\xfe"),
    "time beyond all calendars": Properties(1 << 6, b"\xff" * 8),
    "time in a header": Properties(1 << 13, _table(b"\x01aT" + b"\x7f" + b"\xff" * 7)),
    "double in a header": Properties(1 << 13, _table(b"\x01ad" + struct.pack(">d", 1e300))),
    "bytes in a header": Properties(1 << 13, _table(b"\x01aS" + _table(b"\xff\xfe"))),
    "decimal in a header": Properties(1 << 13, _table(b"\x01aD\x09" + b"\xff" * 4)),
    "name of a header is no UTF-8": Properties(1 << 13, _table(b"\x02\xff\xfet\x01")),
    "deep table": Properties(1 << 13, _deep_table()),
    "other delivery mode": Properties(1 << 12, b"\x07"),
}


@dataclass
class Letters:
    """The dead letters that came, by queue and mark."""

    came: list[tuple[str, str, str]] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        headers = message.headers
        async with self._news:
            self.came.append(
                (str(headers["fedge-queue"]), str(headers.get(MARK)), str(headers["fedge-reason"]))
            )
            self._news.notify_all()

    async def marked(self, queue: str, marks: set[str]) -> None:
        """Wait until all that are marked so have been put aside by a queue."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS), self._news:
                await self._news.wait_for(lambda: marks <= self.of(queue))
        except TimeoutError:
            raise AssertionError(f"{queue} has not refused {marks - self.of(queue)}") from None

    async def count(self, queue: str, least: int) -> None:
        """Wait until so many have been put aside by a queue."""

        def those() -> list[str]:
            return [reason for each, _, reason in self.came if each == queue]

        try:
            async with asyncio.timeout(DEADLINE_SECONDS), self._news:
                await self._news.wait_for(lambda: len(those()) >= least)
        except TimeoutError:
            raise AssertionError(f"{queue} has not refused {least}, only {those()}") from None

    def of(self, queue: str) -> set[str]:
        return {mark for each, mark, _ in self.came if each == queue}


@dataclass
class Alien:
    """Some other program at the broker."""

    connection: aio_pika.abc.AbstractConnection
    channel: aio_pika.abc.AbstractChannel
    letters: Letters

    async def publish(self, queue: Queue, sample: Sample, mark: str, more: dict[str, Any]) -> None:
        """Publish to a queue what is wrong somewhere."""
        exchange = self.channel.default_exchange
        if queue.bindings:
            exchange = await self.channel.get_exchange(queue.bindings[0].exchange, ensure=False)
        given = {"body": b"{}", "headers": HEADERS, "message_id": uuid.uuid4().hex, **more}
        key = str(given.pop("routing_key", sample.routing_key))
        message = aio_pika.Message(**{**given, "headers": {**given["headers"], MARK: mark}})
        if not queue.bindings or key != sample.routing_key:
            # no binding matches: put it straight into the queue
            exchange = self.channel.default_exchange
            key = queue.name
        await exchange.publish(message, key)

    async def publish_raw(self, queue: Queue, properties: Properties) -> bool:
        """Publish what no library writes; return whether the broker takes it."""
        try:
            async with await self.connection.channel() as channel:
                under = await channel.get_underlay_channel()
                await under.basic_publish(
                    b"{}", exchange="", routing_key=queue.name, properties=properties
                )
        except (AMQPError, OSError, RuntimeError):
            return False
        return True

    async def depth(self, queue: str) -> int:
        declared = await self.channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


@asynccontextmanager
async def alien(url: str) -> AsyncIterator[Alien]:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        letters = Letters()
        dead = await channel.declare_queue(exclusive=True)
        await dead.bind(t.DEAD, "#")
        await dead.consume(letters.take, no_ack=True)
        yield Alien(connection, channel, letters)


def sample_of(queue: Queue) -> Sample:
    _, samples = SAMPLES[queue.pattern]
    return samples[0]


async def test_bad_messages_are_put_aside_and_everything_goes_on(
    shared_broker: SharedBroker,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        system(shared_broker, redis_url, tmp_path, monkeypatch) as running,
        alien(shared_broker.url) as other,
    ):
        await running.check()
        queues = {each.pattern: each for each in running.queues.values()}
        assert set(queues) == set(SAMPLES)
        # hub hands events of any kind on; a replica passes over wishes that it does not know
        passing = {"hub.up.event", "controller.control", "device.control"}
        for queue in queues.values():
            for mark, more in MALFORMED.items():
                await other.publish(queue, sample_of(queue), mark, more)
        for name, queue in queues.items():
            marks = set(MALFORMED) - (READABLE if name in passing else set())
            await other.letters.marked(queue.name, marks)
        await running.check()
        await _is_empty(running, other)
        assert not [each for each in other.letters.came if "gave up" in each[2] or not each[2]]


async def test_properties_that_no_library_writes_end_no_connection(
    shared_broker: SharedBroker,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        system(shared_broker, redis_url, tmp_path, monkeypatch) as running,
        alien(shared_broker.url) as other,
    ):
        taken = {}
        for queue in running.queues.values():
            for mark, properties in RAW.items():
                taken[queue.name, mark] = await other.publish_raw(queue, properties)
        assert any(taken.values())
        for queue in running.queues.values():
            least = sum(taken[queue.name, mark] for mark in RAW)
            await other.letters.count(queue.name, least)
        await running.check()
        await _is_empty(running, other)


async def test_lane_that_waits_holds_up_no_other(
    shared_broker: SharedBroker,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        system(shared_broker, redis_url, tmp_path, monkeypatch) as running,
        alien(shared_broker.url) as other,
    ):
        exchange = await other.channel.get_exchange(t.UP)
        for number in range(20):
            # of a node of which nobody knows yet what it should have: each waits in its lane
            waits = Envelope(
                type=kinds.EVENT_RECORDED,
                source="/node/unknown/edged",
                subject=f"pods/default/p{number}",
                data={"metadata": {}},
            )
            key = f"node.unknown.event.events.default.p{number}"
            for _ in range(5):
                body, _ = waits.body()
                await exchange.publish(aio_pika.Message(body, headers=dict(waits.headers())), key)
        await running.check()
        running.check_running()


async def _is_empty(running: System, other: Alien) -> None:
    async def empty() -> bool:
        depths = [
            await other.depth(name)
            for queue in running.queues.values()
            if not queue.exclusive  # nobody else may ask about it
            for name in (queue.name, queue.later)
        ]
        return not any(depths)

    await running.becomes(empty)
