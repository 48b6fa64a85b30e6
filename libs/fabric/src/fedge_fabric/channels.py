"""Many messages with few system calls: publishing and acknowledging on an AMQP channel.

A small message costs its sender about as much for the system call, and the broker for the packet,
as for all else. The AMQP library writes each message and each acknowledgement by itself and lets a
message only begin when the one before has left. Here what is published or done at the same time is
written at once. What is promised stays the same: a message is published when the broker confirmed
it, in the order in which ``publish`` was called, and none is acknowledged before it is done.

The classes use what the library's own channel has under public names (``aiormq.Channel``), and
each belongs to one channel: when it closes, they are of no use any more.
"""

import asyncio
import uuid
from collections import deque

from aio_pika.exceptions import ChannelInvalidStateError
from aiormq import Channel, spec
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

MAX_KEY_BYTES = 255
MAX_BATCH_BYTES = 128 * 1024
"""How much is written at once; the next waits until it has left, up to what the system buffers."""
_RETRY_SECONDS = 0.002


class _Outgoing:
    """A message that waits for its confirm."""

    __slots__ = ("confirmation", "payload", "returned_by")

    def __init__(
        self, payload: bytes, confirmation: "asyncio.Future[object]", returned_by: str | None
    ) -> None:
        self.payload = payload
        self.confirmation = confirmation
        self.returned_by = returned_by


class Publishing:
    """Publishes with confirms on a channel that nothing else publishes on."""

    __slots__ = ("_is_writing", "_waiting", "channel")

    def __init__(self, channel: Channel) -> None:
        """Begin; the channel must have confirms switched on."""
        self.channel = channel
        self._waiting: deque[_Outgoing] = deque()
        self._is_writing = False

    async def publish(
        self,
        body: bytes,
        properties: spec.Basic.Properties,
        *,
        exchange: str,
        routing_key: str,
        mandatory: bool,
    ) -> None:
        """Publish and wait for the confirm. A message not yet written is withdrawn by cancelling.

        Raises:
            AMQPError: the broker refused it (``DeliveryError``), returned it as nothing takes it
                (``PublishError``), or the channel closed.
            ValueError, TypeError, struct.error: it cannot be written as AMQP.
        """
        channel = self.channel
        if channel.is_closed:
            raise ChannelInvalidStateError(f"{channel!r} closed")
        if len(routing_key) > MAX_KEY_BYTES:
            raise ValueError(f"a routing key has at most {MAX_KEY_BYTES} bytes")
        if mandatory and not properties.message_id:
            properties.message_id = uuid.uuid4().hex
        payload = ChannelFrame.marshall(
            channel.number,
            (
                spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory),
                ContentHeader(properties=properties, body_size=len(body)),
                *(
                    ContentBody(body[start : start + channel.max_content_size])
                    for start in range(0, len(body), channel.max_content_size)
                ),
            ),
        ).payload
        confirmation = channel.create_future()
        returned_by = properties.message_id if mandatory else None
        self._waiting.append(_Outgoing(payload, confirmation, returned_by))
        if not self._is_writing:
            self._is_writing = True
            # soon and not now: whoever else publishes now goes with it
            channel.loop.call_soon(self._write)
        try:
            await confirmation
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if channel.is_closed and task is not None and not task.cancelling():
                # nobody cancelled the caller: the library ends what waits on a channel like this
                raise ChannelInvalidStateError(f"{channel!r} closed") from None
            raise

    def _write(self) -> None:
        """Write what waits, and come again when it has left."""
        channel, waiting = self.channel, self._waiting
        if channel.is_closed:
            self._is_writing = False
            return
        if channel.write_queue.full():
            channel.loop.call_later(_RETRY_SECONDS, self._write)
            return
        payloads: list[bytes] = []
        size = 0
        while waiting and size < MAX_BATCH_BYTES:
            message = waiting.popleft()
            if message.confirmation.done():
                continue  # withdrawn
            channel.delivery_tag += 1
            channel.confirmations[channel.delivery_tag] = message.confirmation
            if message.returned_by is not None:
                self._await_return(message, message.returned_by, channel.delivery_tag)
            payloads.append(message.payload)
            size += len(message.payload)
        if not payloads:
            self._is_writing = False
            return
        left = channel.loop.create_future()
        left.add_done_callback(self._on_left)
        channel.write_queue.put_nowait(
            ChannelFrame(payload=b"".join(payloads), should_close=False, drain_future=left)
        )

    def _on_left(self, _: "asyncio.Future[None]") -> None:
        if self._waiting:
            self._write()
        else:
            self._is_writing = False

    def _await_return(self, message: _Outgoing, message_id: str, tag: int) -> None:
        """Let the channel find the message by its id when the broker returns it."""
        by_id = self.channel.message_id_delivery_tag
        by_id[message_id] = tag

        def forget(_: "asyncio.Future[object]") -> None:
            if by_id.get(message_id) == tag:
                del by_id[message_id]

        message.confirmation.add_done_callback(forget)


class Acknowledging:
    """Acknowledges the messages of a channel, those that are done together with one frame.

    A frame can say "this one and all before it": it is sent only where each before it is done.
    """

    __slots__ = ("_done", "_is_sending", "_open", "_seen", "channel")

    def __init__(self, channel: Channel) -> None:
        """Begin; no message of the channel was acknowledged yet."""
        self.channel = channel
        self._seen = 0
        self._open: set[int] = set()
        self._done: list[int] = []
        self._is_sending = False

    def begin(self, tag: int) -> None:
        """Take note of a message; one that was passed over counts as never done."""
        self._open.update(range(self._seen + 1, tag + 1))
        self._seen = max(self._seen, tag)

    def settled(self, tag: int) -> None:
        """Take note that the broker was told of a message in another way."""
        self._open.discard(tag)

    async def acknowledge(self, tag: int) -> None:
        """Acknowledge a message, with those that are done by the time the frame is written.

        Raises:
            AMQPError: the channel closed; the messages come again.
        """
        self._open.discard(tag)
        self._done.append(tag)
        if self._is_sending:
            return
        self._is_sending = True
        try:
            while self._done:
                await asyncio.sleep(0)
                done, self._done = self._done, []
                first_open = min(self._open, default=self._seen + 1)
                together = max((each for each in done if each < first_open), default=0)
                if together:
                    await self.channel.basic_ack(together, multiple=True, wait=False)
                for each in done:
                    if each > first_open:
                        await self.channel.basic_ack(each, wait=False)
        finally:
            self._is_sending = False
