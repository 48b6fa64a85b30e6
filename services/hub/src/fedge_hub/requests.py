"""Questions to nodes and their answers, matched by the question's id."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from fedge_fabric import Address, Envelope, InvalidError, MalformedError, MessageClass
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_objects import NodeName

MAX_PENDING_PIECES = 256


class Requests:
    """``RequestLink`` over the fabric. Answers reach the replica that asked."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._pending: dict[str, asyncio.Queue[Mapping[str, Any]]] = {}

    async def ask(
        self, node: NodeName, kind: str, data: object, *, deadline_seconds: float
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the pieces of the answer in order; see ``RequestLink.ask``."""
        envelope = Envelope(type=kind, source="/cloud/hub", data=data)
        pieces: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(MAX_PENDING_PIECES)
        self._pending[envelope.id] = pieces
        word = kind.split(".")[1]
        try:
            await self._fabric.publish(
                envelope,
                exchange=t.DOWN,
                routing_key=str(Address(node, MessageClass.REQUEST, (word,))),
                mandatory=True,
                expires_after=timedelta(seconds=deadline_seconds),
            )
            while True:
                async with asyncio.timeout(deadline_seconds):
                    piece = await pieces.get()
                yield piece
                if piece["last"]:
                    return
        finally:
            del self._pending[envelope.id]

    def answered(self, envelope: Envelope) -> None:
        """Give a piece to whoever asked; one that nobody waits for any more is dropped.

        Raises:
            MalformedError: it is no piece of an answer.
            InvalidError: more pieces than are read.
        """
        if not (isinstance(envelope.data, dict) and isinstance(envelope.data.get("last"), bool)):
            raise MalformedError("an answer without 'last'")
        pieces = self._pending.get(envelope.subject)
        if pieces is None:
            return
        try:
            pieces.put_nowait(envelope.data)
        except asyncio.QueueFull as exc:
            raise InvalidError(f"answer to {envelope.subject} is longer than it is read") from exc
