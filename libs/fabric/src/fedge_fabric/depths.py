"""How full queues are."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aio_pika.exceptions import ChannelInvalidStateError, ChannelNotFoundEntity
from aiormq import Channel, spec
from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Depth:
    """How full a queue is: messages that wait, and how many take from it."""

    messages: int
    consumers: int


class _Question(spec.Queue.Declare):
    """Of any queue: the library refuses some names that brokers take, as those of federation."""

    @override
    def validate(self) -> None:
        """Leave it to the broker."""


class Depths:
    """Asks a broker how full queues are, on a channel of its own, that stays open.

    A question that the broker has is heard to its end, whoever gave it up: a channel of the AMQP
    library whose opening or whose question is cancelled can leave its next caller without an answer
    for ever. It ends with its connection at the latest.
    """

    def __init__(self, open_channel: Callable[[], Awaitable[Channel]]) -> None:
        """Begin; ``open_channel`` is called when there is no channel, and must not be cancelled."""
        self._open_channel = open_channel
        self._channel: Channel | None = None
        self._asking = asyncio.Lock()
        self._asked: asyncio.Task[dict[str, Depth]] | None = None

    async def ask(self, queues: Sequence[str]) -> dict[str, Depth]:
        """Return how full queues are; those that are not there are left out.

        Raises:
            AMQPError, OSError, RuntimeError: the connection ended.
        """
        async with self._asking:
            if self._asked is not None:
                await asyncio.wait({self._asked})  # whoever asked it has gone
            self._asked = task = asyncio.create_task(self._ask(queues), name="ask for depths")
            task.add_done_callback(_taken_note_of)
            await asyncio.wait({task})
            self._asked = None
        if task.cancelled():  # not by us: so the library ends what waits on a channel
            raise ChannelInvalidStateError("the channel closed")
        return task.result()

    async def _ask(self, queues: Sequence[str]) -> dict[str, Depth]:
        found = {}
        for name in queues:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._open_channel()
            try:
                told = await self._channel.rpc(_Question(queue=name, passive=True))
            except ChannelNotFoundEntity:  # which closes the channel
                self._channel = None
                continue
            found[name] = Depth(
                messages=told.message_count or 0, consumers=told.consumer_count or 0
            )
        return found


def _taken_note_of(task: "asyncio.Task[object]") -> None:
    """Let the failure of a question pass that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
