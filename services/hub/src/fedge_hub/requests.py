"""Questions to nodes and their answers, matched by the question's id.

An answer may go on: a log that is followed. Then the node is told every so often how far the answer
has been read, which is also the sign that somebody still reads.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from typing import Any

from fedge_fabric import (
    Address,
    Envelope,
    InvalidError,
    MalformedError,
    MessageClass,
    UnavailableError,
    UnroutableError,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_objects import NodeName

MAX_PENDING_PIECES = 256
TELL_PIECES = 8
TELL_SECONDS = 10.0
"""The node is told how far an answer that goes on was read after so many pieces, or so long."""


class Requests:
    """``RequestLink`` over the fabric. Answers reach the replica that asked."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._pending: dict[str, asyncio.Queue[Mapping[str, Any]]] = {}

    async def ask(
        self,
        node: NodeName,
        kind: str,
        data: object,
        *,
        deadline_seconds: float,
        goes_on: bool = False,
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yield the pieces of the answer in order; see ``RequestLink.ask``."""
        envelope = Envelope(type=kind, source="/cloud/hub", data=data)
        pieces: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(MAX_PENDING_PIECES)
        self._pending[envelope.id] = pieces
        early: dict[int, Mapping[str, Any]] = {}
        seen = 0
        told = time.monotonic()
        try:
            await self._send(envelope, node, kind.split(".")[1], deadline_seconds)
            while True:
                if seen not in early:
                    async with asyncio.timeout(deadline_seconds):
                        piece = await pieces.get()
                    if piece["index"] >= seen:  # else it was delivered twice
                        early[piece["index"]] = piece
                    continue
                piece = early.pop(seen)
                yield piece
                seen += 1
                if piece["last"]:
                    goes_on = False
                    return
                if goes_on and (seen % TELL_PIECES == 0 or time.monotonic() - told > TELL_SECONDS):
                    told = time.monotonic()
                    await self._tell(envelope.id, node, seen, is_over=False)
        finally:
            del self._pending[envelope.id]
            if goes_on:
                with contextlib.suppress(UnavailableError, UnroutableError):  # it ends by itself
                    await self._tell(envelope.id, node, seen, is_over=True)

    async def _tell(self, request_id: str, node: NodeName, seen: int, *, is_over: bool) -> None:
        """Tell the node how far its answer has been read."""
        envelope = Envelope(
            type=kinds.STREAM_HEARD,
            source="/cloud/hub",
            subject=request_id,
            data={"seen": seen, "over": is_over},
        )
        await self._send(envelope, node, "stream", TELL_SECONDS)

    async def _send(
        self, envelope: Envelope, node: NodeName, word: str, expires_seconds: float
    ) -> None:
        await self._fabric.publish(
            envelope,
            exchange=t.DOWN,
            routing_key=str(Address(node, MessageClass.REQUEST, (word,))),
            mandatory=True,
            expires_after=timedelta(seconds=expires_seconds),
        )

    def answered(self, envelope: Envelope) -> None:
        """Give a piece to whoever asked; one that nobody waits for any more is dropped.

        Raises:
            MalformedError: it is no piece of an answer.
            InvalidError: more pieces than are read.
        """
        data = envelope.data
        if not (isinstance(data, dict) and isinstance(data.get("last"), bool)):
            raise MalformedError("an answer without 'last'")
        if not isinstance(data.get("index"), int):
            raise MalformedError("an answer without 'index'")
        pieces = self._pending.get(envelope.subject)
        if pieces is None:
            return
        try:
            pieces.put_nowait(data)
        except asyncio.QueueFull as exc:
            raise InvalidError(f"answer to {envelope.subject} is longer than it is read") from exc
