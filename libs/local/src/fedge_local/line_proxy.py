"""A slow line: a TCP proxy that delays, limits the bandwidth, and stops reading when it is full.

It stands for a line, so all its connections share the bandwidth of each direction. A byte first
waits for its turn on the line (its rate), then travels (its delay), and nothing overtakes. What is
under way is bounded: who cannot deliver stops reading, and the sender's own buffers fill up. When
one end resets its connection, the other end's is reset.
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from types import TracebackType
from typing import Self

_PIECE_BYTES = 16_384
_SMALLEST_PIECE_BYTES = 256
_PIECES_PER_SECOND = 50
_SOCKET_BYTES = 65_536
_UNLIMITED_UNDER_WAY_BYTES = 4 * 1024 * 1024
_CONNECT_SECONDS = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class LineProxy:
    """Passes connections on to one target, slowly. Runs while its context lasts."""

    def __init__(
        self,
        *,
        listen: str,
        target: tuple[str, int],
        delay_seconds: float = 0.0,
        bytes_per_second: float | None = None,
        port: int = 0,
    ) -> None:
        """Describe a line.

        Args:
            listen: the address to listen at.
            target: where connections go.
            delay_seconds: how long a byte travels, in each direction.
            bytes_per_second: how many bytes the line takes, in each direction; None: any number.
            port: where to listen; 0: the kernel chooses. One that is given is the same again when
                the context is entered anew, as after a cut.
        """
        self._listen = (listen, port)
        self._target = target
        self._delay_seconds = delay_seconds
        self._up = _Rate(bytes_per_second)
        self._down = _Rate(bytes_per_second)
        self._under_way_bytes = (
            _UNLIMITED_UNDER_WAY_BYTES
            if bytes_per_second is None
            else max(_PIECE_BYTES, round(2 * bytes_per_second * delay_seconds))
        )
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("the line does not exist yet: enter its context")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        listener = socket.create_server(self._listen)
        # what it accepts inherits this, and the sender notices a full line soon
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BYTES)
        self._server = await asyncio.start_server(
            self._accept, sock=listener, limit=self._piece_bytes
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def reset(self) -> None:
        """Reset every connection at both ends, at once; new ones are taken."""
        for writer in self._writers:
            _reset(writer)
        self._writers.clear()

    @property
    def _piece_bytes(self) -> int:
        """How much is read at once: little on a narrow line, so that bytes come evenly."""
        rate = self._up.bytes_per_second
        if rate is None:
            return _PIECE_BYTES
        return max(_SMALLEST_PIECE_BYTES, min(_PIECE_BYTES, round(rate / _PIECES_PER_SECOND)))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="slow connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                answers, onward = await asyncio.open_connection(
                    *self._target, limit=self._piece_bytes
                )
            self._writers.add(onward)
            for each in (writer, onward):
                _keep_little(each)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._carry(reader, onward, self._up), name="up")
                tasks.create_task(self._carry(answers, writer, self._down), name="down")
        except* OSError:
            # one end is gone, or the target is not there (a timeout is an OSError too)
            for end in filter(None, (writer, onward)):
                _reset(end)
        finally:
            for end in filter(None, (writer, onward)):
                self._writers.discard(end)
                end.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: "_Rate"
    ) -> None:
        """Carry one direction to its end."""
        way = _Way(self._under_way_bytes)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliver(way, writer), name="deliver")
            loop = asyncio.get_running_loop()
            while piece := await reader.read(self._piece_bytes):
                await rate.take(len(piece))
                await way.put(loop.time() + self._delay_seconds, piece)
            await way.put(loop.time() + self._delay_seconds, b"")

    async def _deliver(self, way: "_Way", writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, piece = await way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not piece:
                with contextlib.suppress(OSError):  # both ends may close at once
                    writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()
            await way.arrived(piece)


class _Rate:
    """The bandwidth of one direction: bytes go one after the other, first come, first served."""

    def __init__(self, bytes_per_second: float | None) -> None:
        self.bytes_per_second = bytes_per_second
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Return when ``count`` bytes have gone out on the line."""
        if self.bytes_per_second is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + count / self.bytes_per_second
        await asyncio.sleep(self._free_at - now)


class _Way:
    """What is under way in one direction of one connection, bounded in bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._changed = asyncio.Condition()

    async def put(self, due: float, piece: bytes) -> None:
        """Send a piece off; wait while there is no room for it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._bytes < self._most_bytes)
            self._pieces.append((due, piece))
            self._bytes += len(piece)
            self._changed.notify_all()

    async def get(self) -> tuple[float, bytes]:
        """Return the next piece and when it is to arrive; it stays under way until `arrived`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._pieces)
            return self._pieces.popleft()

    async def arrived(self, piece: bytes) -> None:
        """Make room."""
        async with self._changed:
            self._bytes -= len(piece)
            self._changed.notify_all()


def _keep_little(writer: asyncio.StreamWriter) -> None:
    """Let a connection buffer little here, so that its ends feel the line."""
    writer.transport.set_write_buffer_limits(high=_PIECE_BYTES)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BYTES)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that its other end is told that it broke."""
    with contextlib.suppress(OSError):  # closed already
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
        )
    writer.transport.abort()
