"""Requests that have an effect: a command that runs. None has it twice, and none after its time.

The asker is asked first whether it still waits: only it knows, for its clock and the node's may
differ by any amount. Its word to begin has to come within the time that the request names, counted
here. Then the request's id goes to the disk, and only then the work begins. So a request that comes
again, after whatever was killed in between, is recognised; its asker is told that it was begun and
that nothing more is known.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from fedge_edged.ports import Clock
from fedge_edged.streams import Stream
from fedge_fabric import UnavailableError

log = structlog.stdlib.get_logger("fedge.edged")

MOST_DONE = 256
"""How many requests are remembered as answered to their end."""


class Begun(Protocol):
    """Which requests were begun, on disk."""

    async def begin(self, request_id: str, now: float) -> float | None:
        """Take note, or return when it was begun before. It is on the disk before this returns.

        Raises:
            UnavailableError: nothing can be noted now.
        """
        ...

    async def all(self) -> Mapping[str, float]:
        """Return when which requests were begun. Raises like ``begin``."""
        ...


class Once:
    """Does what is asked for once."""

    def __init__(self, begun: Begun, clock: Clock) -> None:
        self._begun = begun
        self._clock = clock
        self._done: dict[str, None] = {}

    async def run(
        self,
        request_id: str,
        stream: Stream,
        work: Callable[[Stream], Awaitable[None]],
        *,
        deadline_seconds: float,
    ) -> None:
        """Do the work if this request never was begun and its asker still waits; else say why not.

        Args:
            request_id: of the request; the same when it is delivered again.
            stream: where the answer goes.
            work: has the effect, and answers.
            deadline_seconds: how long the asker may take to say that it still waits.
        """
        if request_id in self._done:
            return  # the answer is out, to its end
        try:
            begun_at = (await self._begun.all()).get(request_id)
            if begun_at is None:
                if not await self._is_wanted(stream, deadline_seconds):
                    log.info("request_not_wanted", request=request_id)
                    await stream.send(_too_late(deadline_seconds), last=True)
                    return
                begun_at = await self._begun.begin(request_id, self._clock.now())
        except UnavailableError as exc:
            await stream.send({"status": 503, "body": f"it was not begun: {exc}\n"}, last=True)
            return
        if begun_at is not None:
            log.warning("request_begun_before", request=request_id)
            await stream.send(cut(begun_at), last=True)
            return
        await work(stream)
        self._done[request_id] = None
        if len(self._done) > MOST_DONE:
            del self._done[next(iter(self._done))]

    async def begun_before(self) -> Mapping[str, float]:
        """Return what was begun by an edged before this one, and when; to be asked at start only.

        How each ended is not known; most have been answered long ago.
        """
        try:
            return await self._begun.all()
        except UnavailableError as exc:
            log.warning("begun_requests_unreadable", reason=str(exc))
            return {}

    async def _is_wanted(self, stream: Stream, deadline_seconds: float) -> bool:
        await stream.send({"body": "", "ready": True})
        try:
            async with asyncio.timeout(deadline_seconds):
                await stream.until_wanted()
        except TimeoutError:
            return False
        return True


def cut(begun_at: float) -> dict[str, Any]:
    """Return the piece that ends an answer wherever it is, for a request that was begun before."""
    at = datetime.fromtimestamp(begun_at, UTC).isoformat(timespec="seconds")
    text = (
        f"it was begun at {at} by the node's clock, and the node lost sight of it: whether it ran"
        " to its end is not known. It is not run again; look at what it was to do, and ask anew"
        " if that is safe"
    )
    return {"status": 409, "body": f"{text}\n", "cut": True}


def _too_late(deadline_seconds: float) -> dict[str, Any]:
    text = f"nobody said within {deadline_seconds:g} s that it is still wanted: it was not begun"
    return {"status": 504, "body": f"{text}\n"}
