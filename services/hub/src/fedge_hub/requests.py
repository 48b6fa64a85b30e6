"""Questions to nodes and their answers, matched by the question's id.

An answer may go on: a log that is followed. Then the node is told every so often how far the answer
has been read, which is also the sign that somebody still reads.
"""

import asyncio
import base64
import contextlib
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
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
    fields,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import NodeName

MAX_PENDING_PIECES = 256
MAX_PENDING_INPUTS = 32
MAX_PIECE = 4 * 1024 * 1024
TELL_PIECES = 8
TELL_SECONDS = 10.0
"""The node is told how far an answer that goes on was read after so many pieces, or so long."""


_OK = 200
_ASKER = re.compile(r"([0-9a-f]{8})-")


class _Credit:
    """How many inputs may be on their way."""

    def __init__(self) -> None:
        self._taken = 0
        self._news = asyncio.Event()

    def take(self, taken: int) -> None:
        """Hear how many the node has used."""
        if taken > self._taken:
            self._taken = taken
            self._news.set()

    async def room_for(self, number: int) -> None:
        """Wait until another may be sent."""
        while number - self._taken >= MAX_PENDING_INPUTS:
            self._news.clear()
            await self._news.wait()


class Requests:
    """``RequestLink`` over the fabric.

    Replicas of hub take answers from one queue. Who asked stands in the question's id, and another
    one hands the answer to it.
    """

    def __init__(self, fabric: Fabric, replica: str = "") -> None:
        """Take the way.

        Args:
            fabric: to the cloud's broker.
            replica: whose questions these are: 8 hexadecimal digits; empty: as it comes.
        """
        self._fabric = fabric
        self.replica = replica or uuid.uuid4().hex[:8]
        self._pending: dict[str, tuple[NodeName, asyncio.Queue[Mapping[str, Any]]]] = {}

    async def ask(
        self,
        node: NodeName,
        kind: str,
        data: Mapping[str, object],
        *,
        deadline_seconds: float,
        goes_on: bool = False,
        inputs: AsyncIterator[bytes] | None = None,
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yield the pieces of the answer in order; see ``RequestLink.ask``."""
        envelope = Envelope(
            type=kind,
            source="/cloud/hub",
            data={**data, "deadline_seconds": deadline_seconds},
            id=f"{self.replica}-{uuid.uuid4().hex}",
        )
        pieces: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(MAX_PENDING_PIECES)
        self._pending[envelope.id] = node, pieces
        early: dict[int, Mapping[str, Any]] = {}
        seen = 0
        credit = _Credit()
        beside: list[asyncio.Task[None]] = []
        try:
            await self._send(envelope, node, kind.split(".")[1], deadline_seconds)
            if inputs is not None:
                beside.append(
                    asyncio.create_task(
                        self._give(envelope.id, node, inputs, credit), name=f"give {envelope.id}"
                    )
                )
            if goes_on:
                beside.append(
                    asyncio.create_task(
                        self._stay(envelope.id, node, lambda: seen), name=f"stay {envelope.id}"
                    )
                )
            while True:
                if seen not in early:
                    async with asyncio.timeout(deadline_seconds):
                        piece = await pieces.get()
                    if piece.get("cut"):  # the others, if any, will never come
                        early[seen] = {**piece, "last": True}
                        continue
                    # else it was delivered twice, or is none of ours: no more are on their way
                    if seen <= piece["index"] < seen + MAX_PENDING_PIECES:
                        early[piece["index"]] = piece
                    continue
                piece = early.pop(seen)
                credit.take(int(piece.get("taken", 0)))
                yield piece
                seen += 1
                if piece["last"]:
                    goes_on = False
                    return
                if piece.get("ready"):
                    await self._tell(envelope.id, node, seen, is_over=False, begin=True)
                elif goes_on and seen % TELL_PIECES == 0:
                    await self._tell(envelope.id, node, seen, is_over=False)
        finally:
            del self._pending[envelope.id]
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if goes_on:
                with contextlib.suppress(UnavailableError, UnroutableError):  # it ends by itself
                    await self._tell(envelope.id, node, seen, is_over=True)

    async def _give(
        self, request_id: str, node: NodeName, inputs: AsyncIterator[bytes], credit: "_Credit"
    ) -> None:
        """Send the node what is given; no more than it can take."""
        number = 0
        async for each in inputs:
            await credit.room_for(number)
            frame = base64.b64encode(each).decode()
            await self._tell(request_id, node, 0, is_over=False, number=number, frame=frame)
            number += 1

    async def _stay(self, request_id: str, node: NodeName, seen: Callable[[], int]) -> None:
        """Tell the node that somebody is there, however slowly the answer is read."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            with contextlib.suppress(UnavailableError, UnroutableError):  # the next one may arrive
                await self._tell(request_id, node, seen(), is_over=False)

    async def _tell(
        self, request_id: str, node: NodeName, seen: int, *, is_over: bool, **given: object
    ) -> None:
        """Tell the node how far its answer has been read, and what is given."""
        envelope = Envelope(
            type=kinds.STREAM_HEARD,
            source="/cloud/hub",
            subject=request_id,
            data={"seen": seen, "over": is_over, **given},
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

    async def hand_on(self, delivery: Delivery) -> bool:
        """Give an answer to the replica that asked; return whether that is another one.

        Raises:
            UnavailableError: the broker is away.
        """
        asker = _ASKER.match(delivery.envelope.subject)
        if asker is None or asker[1] == self.replica:
            return False
        with contextlib.suppress(UnroutableError):  # it is gone, and whoever waited with it
            await self._fabric.hand_on(delivery, t.answers(asker[1]))
        return True

    def answered(self, node: NodeName, envelope: Envelope) -> None:
        """Give a piece to whoever asked; one that nobody waits for any more is dropped.

        Args:
            node: who answers.
            envelope: the piece.

        Raises:
            MalformedError: it is no piece of an answer.
            InvalidError: another node was asked, or more pieces came than are read.
        """
        data = _piece(envelope.data)
        asked, pieces = self._pending.get(envelope.subject, (node, None))
        if pieces is None:
            return
        if asked != node:
            raise InvalidError(f"node {node!r} answers what node {asked!r} was asked")
        try:
            pieces.put_nowait(data)
        except asyncio.QueueFull as exc:
            raise InvalidError(f"answer to {envelope.subject} is longer than it is read") from exc


def _piece(data: Any) -> Mapping[str, Any]:
    """Return a piece of an answer of which every field can be relied on.

    Raises:
        MalformedError: it is none.
    """
    fields.whole(data, "index")
    fields.flag(data, "last")
    fields.flag(data, "ready", default=False)
    fields.flag(data, "cut", default=False)
    fields.whole(data, "taken", default=0)
    fields.whole(data, "status", default=_OK, least=_OK, most=599)
    frame = fields.text(data, "frame", default="", most=MAX_PIECE)
    try:
        base64.b64decode(frame)
    except ValueError as exc:
        raise MalformedError(f"'frame' of an answer is no base64: {exc}") from exc
    body = fields.text(data, "body", default="", most=MAX_PIECE)
    return {"status": _OK, **data, "body": body}
