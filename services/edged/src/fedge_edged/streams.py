"""Answers that go on: a log that is followed, a command that runs.

An answer is sent in numbered pieces. Whoever asked says every so often how far it has read; no
more than a window's pieces are on their way beyond that, so that a slow reader holds the writer up
and not the broker's memory. One that has said nothing for long is gone, and the work for it ends.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import structlog
from typing_extensions import override

from fedge_fabric import UnavailableError
from fedge_tracing import Tracer

_tracer = Tracer("edged")
log = structlog.stdlib.get_logger("fedge.edged")

WINDOW = 32
"""How many pieces may be on their way."""
MOST_EARLY = 256
"""How many inputs may come before the one that is next."""
SILENCE_SECONDS = 45.0
"""How long the asker may say nothing."""
IDLE_SECONDS = 10.0
"""How often an empty piece tells the asker that we are there."""

Publish = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Sends a piece of the answer to a request, by the request's id."""


class Sink(Protocol):
    """Where an answer that goes on is sent, and where inputs come from."""

    async def send(self, piece: Mapping[str, Any], *, last: bool = False) -> None:
        """Send a piece once there is room for it."""
        ...

    def inputs(self) -> AsyncIterator[bytes]:
        """Yield what the asker gives."""
        ...


class StreamEndedError(Exception):
    """Nobody reads any more."""


class Stream(Sink):
    """One answer that goes on."""

    def __init__(self, request_id: str, publish: Publish) -> None:
        self._request_id = request_id
        self._publish = publish
        self._index = 0
        self._seen = 0
        self._heard = asyncio.Event()
        self._is_over = False
        self._ended = asyncio.Event()
        self._wanted = asyncio.Event()
        self._heard_at = asyncio.get_running_loop().time()
        self._sending = asyncio.Lock()
        self._inputs: asyncio.Queue[bytes] = asyncio.Queue()
        self._early: dict[int, bytes] = {}
        self._taken = 0

    @override
    async def send(self, piece: Mapping[str, Any], *, last: bool = False) -> None:
        """Send a piece once there is room for it.

        Raises:
            StreamEndedError: nobody reads any more.
        """
        async with self._sending:
            while self._index - self._seen >= WINDOW:
                self._heard.clear()
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await self._heard.wait()
                except TimeoutError:
                    self._is_over = True
                self._check()
            self._check()
            await self._publish(
                self._request_id,
                {"status": 200, **piece, "index": self._index, "taken": self._taken, "last": last},
            )
            self._index += 1

    def hear(self, seen: int, *, is_over: bool, begin: bool = False) -> None:
        """Take what the asker says: how far it has read, that work may begin, that it is gone."""
        if is_over:
            self._ended.set()
        if begin:
            self._wanted.set()
        self._seen = max(self._seen, seen)
        self._is_over = self._is_over or is_over
        self._heard_at = asyncio.get_running_loop().time()
        self._heard.set()

    async def until_wanted(self) -> None:
        """Wait until the asker says that it still waits for the work to begin."""
        await self._wanted.wait()

    @override
    async def inputs(self) -> AsyncIterator[bytes]:
        """Yield what the asker gives, in order; every so often it is told how much was taken."""
        while True:
            yield await self._inputs.get()
            self._taken += 1
            if self._taken % (WINDOW // 4) == 0:
                await self.send({"body": ""})

    def give(self, number: int, content: bytes) -> None:
        """Take an input; they may come in any order, and twice.

        Raises:
            ValueError: it comes so long before its turn that there are too many to be kept.
        """
        next_number = self._taken + self._inputs.qsize()
        if number < next_number:
            return
        if number - next_number > MOST_EARLY:
            raise ValueError(f"number {number} comes too early: {next_number} is next")
        self._early.setdefault(number, content)
        while (following := self._taken + self._inputs.qsize()) in self._early:
            self._inputs.put_nowait(self._early.pop(following))

    async def stay(self) -> None:
        """Tell that we are there until nobody reads any more.

        Raises:
            StreamEndedError: always, in the end.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._ended.wait()
            self._check()
            await self.send({"body": ""})

    def _check(self) -> None:
        if asyncio.get_running_loop().time() - self._heard_at > SILENCE_SECONDS:
            self._is_over = True
        if self._is_over:
            raise StreamEndedError(self._request_id)


class Streams:
    """All answers that go on."""

    def __init__(self, publish: Publish, tasks: asyncio.TaskGroup) -> None:
        """Take how pieces are sent, and whose tasks the work is."""
        self._publish = publish
        self._tasks = tasks
        self._streams: dict[str, Stream] = {}

    def open(
        self,
        request_id: str,
        work: Callable[[Stream], Awaitable[None]],
        *,
        name: str = "answer",
        traceparent: str = "",
    ) -> None:
        """Begin an answer; ``work`` sends its pieces, the last one marked.

        Args:
            request_id: whose answer.
            work: sends it.
            name: of its span.
            traceparent: the trace that the request came with.
        """
        if request_id in self._streams:
            return  # it was delivered twice
        stream = self._streams[request_id] = Stream(request_id, self._publish)
        task = self._tasks.create_task(
            self._traced(stream, work, name, traceparent), name=f"stream {request_id}"
        )
        task.add_done_callback(lambda _: self._streams.pop(request_id, None))

    def hear(self, request_id: str, data: Mapping[str, Any]) -> None:
        """Take what an asker says; one that nobody answers any more is passed over."""
        stream = self._streams.get(request_id)
        if stream is not None:
            stream.hear(
                int(data.get("seen", 0)),
                is_over=bool(data.get("over")),
                begin=bool(data.get("begin")),
            )
            if "frame" in data:
                stream.give(int(data["number"]), base64.b64decode(data["frame"]))

    async def _traced(
        self,
        stream: Stream,
        work: Callable[[Stream], Awaitable[None]],
        name: str,
        traceparent: str,
    ) -> None:
        with _tracer.child(traceparent, name):
            await self._run(stream, work)

    async def _run(self, stream: Stream, work: Callable[[Stream], Awaitable[None]]) -> None:
        working = asyncio.ensure_future(work(stream))
        staying = asyncio.ensure_future(stream.stay())
        try:
            await asyncio.wait({working, staying}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, staying):
                task.cancel()
            for ended in await asyncio.gather(working, staying, return_exceptions=True):
                if isinstance(ended, StreamEndedError | asyncio.CancelledError | None):
                    continue
                log.warning("stream_failed", reason=str(ended))
                with contextlib.suppress(StreamEndedError, UnavailableError):
                    await stream.send({"status": 500, "body": f"{ended}\n"}, last=True)
