"""The devices' side: an MQTT client of the edge's broker.

An MQTT client rather than AMQP on the same broker, so that the devices may as well be on another
broker of the gateway. A message is acknowledged to the broker after it was stored, in a session
that outlives this process: what the broker has confirmed to a device is not lost. While the broker
is away nothing is kept for devices; on return each gets the difference that it then has.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Final
from urllib.parse import unquote, urlsplit

import aiomqtt
import structlog
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fedge_fabric import UnavailableError
from fedge_objects import NodeName
from fedge_service import backoff, to_its_end
from fedge_tracing import Cause, SpanKind, Tracer, is_recorded, names, parse, traceparent
from fedge_twin.payloads import Message
from fedge_twin.quota import Admitted, Parked, Quota
from fedge_twin.topics import Word, filters, filters_of
from fedge_twin.twins import Twins

log = structlog.stdlib.get_logger("fedge.twin")

_tracer = Tracer("twin")
_NO_CAUSE: Final = Cause()

TRACEPARENT: Final = "traceparent"
"""Of MQTT's user properties: https://w3c.github.io/trace-context-mqtt/."""
_NEVER: Final = 0xFFFF_FFFF
CLIENT_ID: Final = "fedge-twin"
KEEPALIVE_SECONDS = 30
AT_LEAST_ONCE: Final = 1
TAKEN_AT_ONCE = 256
PUBLISHED_AT_ONCE = 1024
MAX_OUTGOING = 4096
"""Of as many messages to devices the next words wait for the broker to take them."""
PUBLISH_SECONDS = 30.0
_REFUSED: Final = 0x80


class MqttLink:
    """One connection to the devices' broker, made anew whenever it is lost."""

    def __init__(self, url: str, node: NodeName, quota: Quota, *, version: str = "3.1.1") -> None:
        """Prepare; nothing is connected yet.

        Args:
            url: ``mqtt://user:password@host:port``.
            node: whose membership is asked for.
            quota: how much each device may say.
            version: of MQTT: ``3.1.1`` or ``5``.
        """
        parts = urlsplit(url)
        if parts.scheme != "mqtt" or not parts.hostname:
            raise ValueError("the MQTT address is no mqtt://user:password@host:port")
        self._host = parts.hostname
        self._port = parts.port or 1883
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._has_properties = version == "5"
        self._node = node
        self._quota = quota
        self._outgoing: deque[tuple[Message, Cause]] = deque()
        self._news = asyncio.Event()
        self._has_room = asyncio.Event()
        self.connected = asyncio.Event()

    def send(self, messages: Iterable[Message]) -> None:
        """Publish, if the broker is there."""
        if self.connected.is_set():
            cause = _cause()
            self._outgoing.extend((each, cause) for each in messages)
            self._news.set()
            if len(self._outgoing) >= MAX_OUTGOING:
                self._has_room.clear()

    async def run(self, twins: Twins) -> None:
        """Hear and speak until cancelled."""
        while True:
            async for waited in backoff(first_seconds=0.2, most_seconds=10):
                try:
                    await to_its_end(self._serve(twins), name="mqtt-link")
                except* aiomqtt.MqttError as group:
                    log.warning(
                        "mqtt_broker_away",
                        broker=f"{self._host}:{self._port}",
                        reason=_first(group),
                        waited_seconds=round(waited, 1),
                    )
                if self.connected.is_set():
                    self.connected.clear()
                    break

    async def _serve(self, twins: Twins) -> None:
        client = self._client()
        client.pending_calls_threshold = PUBLISHED_AT_ONCE
        # the library acknowledges before we have stored; its own client lets us do it ourselves
        client._client.manual_ack_set(True)  # noqa: SLF001
        async with client:
            self._outgoing.clear()
            self._has_room.set()
            self._quota.forget()
            for each in filters(self._node):
                await _subscribe(client, each)
            async with asyncio.TaskGroup() as tasks:
                # each for itself: a group cancels its tasks once, and the library may lose that
                for name, work in (
                    ("mqtt-names", self._follow_names(client, twins)),
                    ("mqtt-hear", self._hear(client, twins)),
                    ("mqtt-parked", self._hear_parked(client, twins)),
                    ("mqtt-speak", self._speak(client)),
                ):
                    tasks.create_task(to_its_end(work, name=name), name=name)
                self.connected.set()
                log.info("mqtt_connected", broker=f"{self._host}:{self._port}")
                twins.differences()

    def _client(self) -> aiomqtt.Client:
        """Return a client whose session outlives it, of whichever version of the protocol."""
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # the library's
        kept.SessionExpiryInterval = _NEVER
        has = self._has_properties
        return aiomqtt.Client(
            self._host,
            self._port,
            username=self._user,
            password=self._password,
            identifier=CLIENT_ID,
            protocol=aiomqtt.ProtocolVersion.V5 if has else aiomqtt.ProtocolVersion.V311,
            clean_session=None if has else False,
            clean_start=False if has else MQTT_CLEAN_START_FIRST_ONLY,
            properties=kept if has else None,
            keepalive=KEEPALIVE_SECONDS,
            max_inflight_messages=PUBLISHED_AT_ONCE,
        )

    async def _hear(self, client: aiomqtt.Client, twins: Twins) -> None:
        messages = client.messages
        async for first in messages:
            batch = [first]
            while len(messages) and len(batch) < TAKEN_AT_ONCE:
                batch.append(await anext(messages))
            taken = []
            for each in batch:
                word = Word(
                    str(each.topic),
                    _bytes(each.payload),
                    (each.mid, each.qos),
                    _context_of(each.properties),
                )
                match self._quota.admit(word):
                    case Admitted():
                        taken.append(word)
                    case Parked(instead_of, is_answered):
                        if instead_of is not None:
                            self._acknowledge(client, [instead_of])
                            if is_answered:
                                self.send(twins.over_quota(instead_of))
            await self._take(client, twins, taken)

    async def _hear_parked(self, client: aiomqtt.Client, twins: Twins) -> None:
        """Take the last word of those who said too much, as soon as they may speak again."""
        while True:
            await self._take(client, twins, await self._quota.due())

    async def _take(self, client: aiomqtt.Client, twins: Twins, words: Sequence[Word]) -> None:
        if not words:
            return
        async for _ in backoff(first_seconds=0.2, most_seconds=2):
            try:
                await twins.hear(words)
            except UnavailableError as exc:
                # they stay with the broker, in order, until there is room
                log.warning("words_wait", words=len(words), reason=str(exc))
            else:
                break
        self._acknowledge(client, words)
        await self._has_room.wait()

    def _acknowledge(self, client: aiomqtt.Client, words: Iterable[Word]) -> None:
        for each in words:
            client._client.ack(*each.receipt)  # noqa: SLF001 - see _serve

    async def _speak(self, client: aiomqtt.Client) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._outgoing:
                await _publish(client, self._outgoing, has_properties=self._has_properties)
                if len(self._outgoing) < MAX_OUTGOING:
                    self._has_room.set()

    async def _follow_names(self, client: aiomqtt.Client, twins: Twins) -> None:
        subscribed: set[str] = set()
        while True:
            twins.keys_changed.clear()
            wanted = filters_of(twins.keys)
            for each in sorted(wanted - subscribed):
                await _subscribe(client, each)
            for each in sorted(subscribed - wanted):
                await client.unsubscribe(each)
            subscribed = wanted
            await twins.keys_changed.wait()


async def _publish(
    client: aiomqtt.Client, outgoing: "deque[tuple[Message, Cause]]", *, has_properties: bool
) -> None:
    """Publish some of what waits, in order, and wait until the broker has the last of it.

    Past the library's own ``publish``, which waits for each message by itself.
    """
    with ExitStack() as spans:
        for _ in range(min(len(outgoing), PUBLISHED_AT_ONCE) - 1):
            each, context = _traced(spans, *outgoing.popleft())
            with_it = _properties(context) if has_properties else None
            client._client.publish(  # noqa: SLF001
                each.topic, each.payload, AT_LEAST_ONCE, properties=with_it
            )
        last, context = _traced(spans, *outgoing.popleft())
        await client.publish(
            last.topic,
            last.payload,
            AT_LEAST_ONCE,
            properties=_properties(context) if has_properties else None,
            timeout=PUBLISH_SECONDS,
        )


def _properties(context: str) -> Properties | None:
    """Return what a message says beside its payload: its trace context, if it has one."""
    if not context:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # the library's
    properties.UserProperty = (TRACEPARENT, context)
    return properties


def _context_of(properties: Properties | None) -> str:
    """Return the trace context that a message came with; empty if it has none."""
    for name, value in getattr(properties, "UserProperty", None) or ():
        if name == TRACEPARENT and parse(value) is not None:
            return str(value)
    return ""


def _cause() -> Cause:
    """Return what is being traced now, if anything is."""
    context = traceparent()
    return Cause(context, time.time()) if context and is_recorded(context) else _NO_CAUSE


def _traced(spans: ExitStack, message: Message, cause: Cause) -> tuple[Message, str]:
    """Have the sending of a message be a span, if its cause is traced, until ``spans`` ends.

    Returns:
        The message, and the trace context to send along; empty if it is not traced.
    """
    context = ""
    if cause.traceparent:
        about: dict[str, str | int] = {
            names.MESSAGING_SYSTEM: "mqtt",
            names.MESSAGING_OPERATION_NAME: "publish",
            names.MESSAGING_OPERATION_TYPE: "send",
            names.MESSAGING_DESTINATION_NAME: message.topic,
            names.MESSAGING_BODY_SIZE: len(message.payload),
        }
        active = spans.enter_context(
            _tracer.child(
                cause.traceparent,
                "publish to device",
                kind=SpanKind.PRODUCER,
                attributes=about,
                start=cause.since,
            )
        )
        context = active.traceparent
    return message, context


async def _subscribe(client: aiomqtt.Client, topic_filter: str) -> None:
    answers = await client.subscribe(topic_filter, qos=AT_LEAST_ONCE)
    if any((each if isinstance(each, int) else each.value) >= _REFUSED for each in answers):
        log.error("mqtt_subscription_refused", filter=topic_filter)


def _bytes(payload: object) -> bytes:
    return payload if isinstance(payload, bytes) else b""


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
