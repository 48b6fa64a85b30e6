"""Publishing and consuming on one broker, with FastStream underneath.

What is published durably is confirmed by the broker before ``publish`` returns. A message is
acknowledged only after its handler returned; what a handler raises decides where the message goes
(see ``fedge_fabric.errors``). The broker may be away at start or later: connecting goes on until
it answers, and a handler that runs while the link drops is cancelled and gets its message again.
Messages of an ordered queue are handled in order per routing key, whatever goes wrong meanwhile.
"""

import asyncio
import contextlib
import dataclasses
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import aio_pika
import structlog
from aio_pika.abc import AbstractRobustConnection
from aio_pika.exceptions import (
    AMQPError,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    DeliveryError,
)
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue
from faststream.rabbit.schemas import ExchangeType
from yarl import URL

import fedge_tracing as tracing
from fedge_fabric import topology, wire
from fedge_fabric.channels import Acknowledging, Publishing
from fedge_fabric.depths import Depth, Depths
from fedge_fabric.envelope import CONTENT_TYPE, Envelope
from fedge_fabric.errors import (
    FabricError,
    InvalidError,
    MalformedError,
    UnavailableError,
    UnroutableError,
)
from fedge_fabric.lanes import Lanes
from fedge_fabric.span_sender import SpanSender
from fedge_fabric.spans import Spans
from fedge_fabric.topology import Queue
from fedge_service import backoff

if TYPE_CHECKING:
    import aiormq
    from aio_pika import IncomingMessage
    from aio_pika.abc import AbstractIncomingMessage
    from faststream.rabbit.schemas.queue import ClassicQueueArgs

log = structlog.stdlib.get_logger("fedge.fabric")
wire.read_anything()

_PUBLISH_TIMEOUT_SECONDS = 30.0
_CONNECT_TIMEOUT_SECONDS = 10.0
_LEAVE_SECONDS = 5.0
_RECONNECT_SECONDS = 1.0
_DEFAULT_EXCHANGE = RabbitExchange("", type=ExchangeType.DIRECT)
_REASON = "fedge-reason"
_QUEUE = "fedge-queue"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it came: who it is for, what it says, and how often it was tried before."""

    routing_key: str
    envelope: Envelope
    attempt: int = field(default=0, compare=False)


Handler = Callable[[Delivery], Awaitable[None]]


@dataclass(slots=True)
class Statistics:
    """Counts since the start of this process."""

    published: int = 0
    handled: int = 0
    retried: int = 0
    dead_lettered: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A queue that is consumed, and the channel for it."""

    queue: Queue
    definition: RabbitQueue
    channel: Channel


class Fabric:
    """One connection to one broker.

    Use as an asynchronous context manager after ``subscribe``::

        fabric = Fabric(url, service="meta", exchanges=topology.EDGE_EXCHANGES)
        fabric.subscribe(topology.meta_state(node), on_change)
        async with fabric.running():
            ...
    """

    def __init__(self, url: str, *, service: str, exchanges: Sequence[str]) -> None:
        """Prepare; nothing is connected yet.

        Args:
            url: ``amqp://user:password@host:port/vhost``.
            service: name of the connection in the broker, and in logs.
            exchanges: what must exist in this broker.
        """
        self.statistics = Statistics()
        self._service = service
        self._spans = Spans(service)
        self._exchanges = {name: _exchange(name) for name in exchanges}
        self._taken: list[_Taken] = []
        self._declared: dict[str, aio_pika.RobustExchange] = {}
        self._connection: AbstractRobustConnection | None = None
        self._lanes = Lanes()
        self._publishing: Publishing | None = None
        self._depths = Depths(self._open_channel)
        self._broker = RabbitBroker(
            URL(url).update_query(name=f"fedge-{service}", heartbeat="10"),
            timeout=_CONNECT_TIMEOUT_SECONDS,
            fail_fast=False,
            reconnect_interval=_RECONNECT_SECONDS,
            default_channel=Channel(publisher_confirms=True, on_return_raises=True),
            app_id=f"fedge-{service}",
            apply_types=False,
            logger=None,
            on_reconnected=[self._on_reconnected],
        )
        self._reconnected: list[Callable[[], None]] = []
        self._overheard: list[tuple[str, str, Callable[[Mapping[str, Any]], None]]] = []

    def subscribe(self, queue: Queue, handler: Handler) -> None:
        """Have ``handler`` called for each message of ``queue``, ``prefetch`` side by side."""
        taken = _Taken(
            queue=queue,
            definition=RabbitQueue(
                queue.name,
                durable=not queue.exclusive,
                exclusive=queue.exclusive,
                auto_delete=queue.exclusive,
                arguments=cast("ClassicQueueArgs", queue.arguments),
            ),
            channel=Channel(prefetch_count=queue.prefetch),
        )
        self._taken.append(taken)
        subscriber = self._broker.subscriber(
            taken.definition,
            channel=taken.channel,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            decoder=_undecoded,
        )
        acknowledging: Acknowledging | None = None

        async def take(raw: "IncomingMessage") -> None:
            nonlocal acknowledging
            try:
                channel = cast("aiormq.Channel", raw.channel)
            except ChannelInvalidStateError:
                return  # the link dropped: it comes again
            if acknowledging is None or acknowledging.channel is not channel:
                acknowledging = Acknowledging(channel)
            await self._consume(queue, handler, raw, acknowledging)

        async def consume(message: RabbitMessage) -> None:
            await take(message.raw_message)

        subscriber(consume)
        # FastStream connects, declares, consumes, stops and documents. What it does with each
        # message (contexts, middlewares, parser, decoder, answer) is not used here, and costs more
        # than reading the message does: past it, straight to the handler
        subscriber.process_message = take  # type: ignore[method-assign,assignment]

    def overhear(
        self, exchange: str, routing_key: str, heard: Callable[[Mapping[str, Any]], None]
    ) -> None:
        """Have ``heard`` called with the headers of what others publish to one of their exchanges.

        Nothing is kept for us while we are away. Where there is no such exchange nothing is heard,
        which the log tells.
        """
        self._overheard.append((exchange, routing_key, heard))

    def on_reconnected(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after the link to the broker was lost and is back."""
        self._reconnected.append(callback)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connect, declare, consume; stop consuming and disconnect at the end."""
        try:
            self._connection = await self._broker.connect()
            await self._declare()
            await self._broker.start()
            for each in self._overheard:
                await self._listen(*each)
            log.info("broker_connected", service=self._service)
            async with self._sending_spans():
                yield
        finally:
            await self._leave()

    async def _leave(self) -> None:
        """Stop consuming and disconnect; one that does not answer is left without its word."""
        connection = self._connection
        stopping = asyncio.create_task(self._broker.stop(), name=f"{self._service} leaves")
        await asyncio.wait({stopping}, timeout=_LEAVE_SECONDS)
        if not stopping.done():
            log.warning("broker_does_not_answer", service=self._service)
            transport = connection.transport if connection is not None else None
            if transport is not None:
                # what waits for an answer on it ends with it
                await transport.connection.close()
        await stopping

    async def publish(
        self,
        envelope: Envelope,
        *,
        exchange: str,
        routing_key: str,
        mandatory: bool = False,
        persistent: bool = True,
        expires_after: timedelta | None = None,
    ) -> None:
        """Publish and wait for the broker's confirm.

        Args:
            envelope: the message.
            exchange: one of those given at the start.
            routing_key: an address as text.
            mandatory: a queue must take it.
            persistent: it outlives the broker. What is worth nothing after a restart of the broker
                need not be written to a gateway's flash.
            expires_after: drop it when it was not consumed by then.

        Raises:
            UnroutableError: mandatory, and no queue takes it.
            InvalidError: AMQP cannot carry it.
            UnavailableError: the broker did not confirm; the message may have arrived or not.
        """
        body, encoding = envelope.body()
        with self._spans.sending(envelope, exchange, routing_key, len(body)) as active:
            await self._send(
                aio_pika.Message(
                    body,
                    headers=dict(self._spans.headers(envelope, active)),
                    content_type=CONTENT_TYPE,
                    content_encoding=encoding,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT
                    if persistent
                    else aio_pika.DeliveryMode.NOT_PERSISTENT,
                    message_id=envelope.id,
                    expiration=expires_after,
                ),
                self._exchanges[exchange],
                routing_key,
                mandatory=mandatory,
            )
        self.statistics.published += 1

    async def hand_on(self, delivery: Delivery, queue: Queue) -> None:
        """Put a message that was taken from one queue into another, as it came.

        Raises:
            UnroutableError: there is no such queue.
            UnavailableError: the broker did not confirm; the message may have arrived or not.
        """
        envelope = delivery.envelope
        body, encoding = envelope.body()
        with self._spans.sending(envelope, queue.pattern, delivery.routing_key, len(body)) as span:
            headers: dict[str, Any] = dict(self._spans.headers(envelope, span))
            headers[wire.ORIGINAL_KEY] = delivery.routing_key
            if delivery.attempt:
                headers[wire.ATTEMPT] = delivery.attempt
            await self._send(
                aio_pika.Message(
                    body,
                    headers=headers,
                    content_type=CONTENT_TYPE,
                    content_encoding=encoding,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    message_id=envelope.id,
                ),
                _DEFAULT_EXCHANGE,
                queue.name,
                mandatory=True,
            )
        self.statistics.published += 1

    @asynccontextmanager
    async def _sending_spans(self) -> AsyncIterator[None]:
        """Send the spans of this process meanwhile, if it makes any."""
        buffer = tracing.buffer()
        if buffer is None or topology.UP not in self._exchanges:
            yield
            return
        sender = SpanSender(self, buffer, service=self._service)
        task = asyncio.create_task(sender.run(), name=f"{self._service} spans")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await sender.flush()

    async def depths(self, queues: Iterable[str]) -> dict[str, Depth]:
        """Return how full queues are; those that are not there are left out.

        Raises:
            UnavailableError: the broker did not answer.
        """
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_SECONDS):
                return await self._depths.ask(list(queues))
        except (AMQPError, OSError, TimeoutError, RuntimeError) as exc:
            raise UnavailableError(
                f"broker did not tell of its queues: {str(exc) or type(exc).__name__}"
            ) from exc

    async def _open_channel(self) -> "aiormq.Channel":
        """Open a channel that is not restored when the connection is lost."""
        transport = self._connection.transport if self._connection is not None else None
        if transport is None:
            raise UnavailableError("the broker is not connected")
        channel = await transport.connection.channel(publisher_confirms=False)
        return cast("aiormq.Channel", channel)

    async def _send(
        self,
        message: aio_pika.Message,
        exchange: RabbitExchange,
        routing_key: str,
        *,
        mandatory: bool,
    ) -> None:
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_SECONDS):
                declared = self._declared.get(exchange.name)
                if declared is None:
                    declared = await self._broker.declare_exchange(exchange)
                    self._declared[exchange.name] = declared
                channel = cast("aiormq.Channel", await declared.channel.get_underlay_channel())
                if self._publishing is None or self._publishing.channel is not channel:
                    self._publishing = Publishing(channel)
                await self._publishing.publish(
                    message.body,
                    message.properties,
                    exchange=exchange.name,
                    routing_key=routing_key,
                    mandatory=mandatory,
                )
        except DeliveryError as exc:
            raise UnroutableError(
                f"no queue takes {routing_key!r} from exchange {exchange.name!r}"
            ) from exc
        except (TypeError, ValueError, ArithmeticError, struct.error) as exc:
            raise InvalidError(
                f"a message for {routing_key[:64]!r} cannot be written as AMQP: {exc}"
            ) from exc
        except (AMQPError, OSError, TimeoutError, RuntimeError) as exc:
            # aiormq tells a channel or connection that closes under a caller as RuntimeError
            raise UnavailableError(
                f"broker did not confirm {routing_key!r}: {str(exc) or type(exc).__name__}"
            ) from exc

    async def _listen(
        self, exchange: str, routing_key: str, heard: Callable[[Mapping[str, Any]], None]
    ) -> None:
        if self._connection is None:
            raise UnavailableError("the broker is not connected")
        channel = await self._connection.channel()
        try:
            await channel.get_exchange(exchange, ensure=True)
        except ChannelNotFoundEntity:
            log.warning("nothing_to_overhear", service=self._service, exchange=exchange)
            return
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        await queue.bind(exchange, routing_key)

        async def consume(message: "AbstractIncomingMessage") -> None:
            heard(message.headers)

        await queue.consume(consume, no_ack=True)

    async def _declare(self) -> None:
        for exchange in self._exchanges.values():
            await self._broker.declare_exchange(exchange)
        for taken in self._taken:
            queue = taken.queue
            # on the channel that consumes: the library takes from the channel that declared
            declared = await self._broker.config.declarer.declare_queue(
                taken.definition, channel=taken.channel
            )
            for binding in queue.bindings:
                await declared.bind(binding.exchange, routing_key=binding.routing_key)
            if not (queue.exclusive or queue.shared):
                await self._broker.declare_queue(
                    RabbitQueue(
                        queue.later,
                        durable=True,
                        arguments={
                            "x-message-ttl": int(topology.RETRY_AFTER_SECONDS * 1000),
                            "x-dead-letter-exchange": "",
                            "x-dead-letter-routing-key": queue.name,
                        },
                    )
                )

    async def _on_reconnected(self, *_: Any) -> None:
        log.info("broker_reconnected", service=self._service)
        for callback in self._reconnected:
            callback()

    async def _consume(
        self,
        queue: Queue,
        handler: Handler,
        raw: "IncomingMessage",
        acknowledging: Acknowledging,
    ) -> None:
        tag = raw.delivery_tag or 0
        acknowledging.begin(tag)
        try:
            _check_size(queue, len(raw.body))
            envelope = Envelope.read(
                headers=raw.headers, body=raw.body, content_encoding=raw.content_encoding
            )
            structlog.contextvars.bind_contextvars(message_id=envelope.id)
            delivery = Delivery(wire.original_key(raw), envelope, wire.attempts(raw))
            if queue.ordered:
                lane = queue.name, delivery.routing_key
                await self._lanes.enter(lane)
                try:
                    if acknowledging.channel.is_closed:
                        return  # the link dropped while it waited: it comes again, in its place
                    await self._handle_in_place(queue, handler, delivery)
                finally:
                    self._lanes.leave(lane)
            else:
                await self._handle(queue, handler, delivery)
        except (MalformedError, InvalidError) as exc:
            await self._bury(queue, raw, str(exc))
        except UnavailableError as exc:
            await self._retry(queue, raw, exc)
        except Exception as exc:
            log.exception("handler_failed", queue=queue.name, message_id=raw.message_id)
            await self._retry(queue, raw, exc)
        else:
            self.statistics.handled += 1
            await acknowledging.acknowledge(tag)
            return
        acknowledging.settled(tag)

    async def _handle(self, queue: Queue, handler: Handler, delivery: Delivery) -> None:
        envelope = delivery.envelope
        with self._spans.processing(envelope, queue, delivery.routing_key) as active:
            if active.traceparent != envelope.traceparent:
                # what comes of it is below this
                told = dataclasses.replace(envelope, traceparent=active.traceparent)
                delivery = dataclasses.replace(delivery, envelope=told)
            await handler(delivery)

    async def _handle_in_place(self, queue: Queue, handler: Handler, delivery: Delivery) -> None:
        """Call the handler until it takes the message or refuses it, so that none overtakes it.

        Raises:
            InvalidError: it is refused, or there were too many attempts.
            MalformedError: it cannot be read.
        """
        attempt, waits = 0, None
        while True:
            try:
                await self._handle(queue, handler, delivery)
            except (MalformedError, InvalidError):
                raise
            except Exception as exc:
                attempt += 1
                known = isinstance(exc, UnavailableError)
                unclaimed = isinstance(exc.__cause__, UnroutableError)
                if attempt >= topology.MAX_ATTEMPTS and (unclaimed or not known):
                    raise InvalidError(f"gave up after {attempt} attempts: {exc}") from exc
                if not known:
                    log.exception("handler_failed", queue=queue.name)
                self.statistics.retried += 1
                log.warning(
                    "message_retried",
                    queue=queue.name,
                    message_id=delivery.envelope.id,
                    attempt=attempt,
                    reason=str(exc),
                )
            else:
                return
            if waits is None:
                waits = backoff(first_seconds=0.1, most_seconds=topology.RETRY_AFTER_SECONDS)
                await anext(waits)  # the first is for the attempt that failed already
            await anext(waits)

    async def _retry(self, queue: Queue, raw: "IncomingMessage", cause: Exception) -> None:
        attempt = wire.attempts(raw) + 1
        # in an exclusive queue nothing can be counted beyond the second time
        is_last = attempt > topology.MAX_ATTEMPTS or (queue.exclusive and raw.redelivered)
        if is_last and not isinstance(cause, UnavailableError):
            await self._bury(queue, raw, f"gave up after {attempt - 1} attempts: {cause}")
            return
        log.warning(
            "message_retried",
            queue=queue.name,
            message_id=raw.message_id,
            attempt=attempt,
            reason=str(cause),
        )
        self.statistics.retried += 1
        if queue.exclusive:
            # it comes again at once: not without end, and not without a pause
            await asyncio.sleep(topology.RETRY_AFTER_SECONDS)
            await raw.nack()
            return
        await self._pass_on(
            raw,
            _DEFAULT_EXCHANGE,
            queue.later,
            {wire.ATTEMPT: attempt, wire.ORIGINAL_KEY: wire.original_key(raw)},
        )

    async def _bury(self, queue: Queue, raw: "IncomingMessage", reason: str) -> None:
        log.warning(
            "message_dead_lettered",
            queue=queue.name,
            message_id=raw.message_id,
            routing_key=raw.routing_key,
            reason=reason,
        )
        self.statistics.dead_lettered += 1
        await self._pass_on(
            raw,
            self._exchanges[topology.DEAD],
            queue.name,
            {_REASON: reason[:1024], _QUEUE: queue.name, wire.ORIGINAL_KEY: wire.original_key(raw)},
        )

    async def _pass_on(
        self,
        raw: "IncomingMessage",
        exchange: RabbitExchange,
        routing_key: str,
        headers: dict[str, Any],
    ) -> None:
        """Put the message elsewhere, and acknowledge it only then."""
        copy = wire.copy_of(raw, headers)
        try:
            await self._send(copy, exchange, routing_key, mandatory=True)
        except FabricError as exc:
            log.warning("message_requeued", message_id=raw.message_id, reason=str(exc))
            await raw.nack()
        else:
            await raw.ack()


def _exchange(name: str) -> RabbitExchange:
    return RabbitExchange(name, type=ExchangeType.TOPIC, durable=True)


async def _undecoded(message: RabbitMessage) -> RabbitMessage:
    """Hand the message itself to the handler: reading it may fail, and that is ours to answer."""
    return message


def _check_size(queue: Queue, size: int) -> None:
    if size > queue.max_bytes:
        raise MalformedError(f"a message of {size} bytes: {queue.name} takes {queue.max_bytes}")
