"""The links' way through an HTTP proxy, which the broker itself cannot take.

The links dial a port of this machine. Each connection is passed on through the proxy, which is
asked to CONNECT (RFC 9110, section 9.3.6). TLS is between the two brokers: nothing here, and
nothing in the proxy, can read or change what passes.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Final
from urllib.parse import SplitResult

import structlog
from typing_extensions import override

from fedge_enrolment.dialling import (
    PROXY_PORT,
    Address,
    DialError,
    check_proxy_answer,
    proxy_for,
    proxy_request,
)
from fedge_meta.links import Line
from fedge_meta.sockets import Connection

log = structlog.stdlib.get_logger("fedge.meta")

DIAL_SECONDS: Final = 10.0
REACHED_WITHIN_SECONDS: Final = 2.0
LAST_WORDS_SECONDS: Final = 1.0
_PIECE: Final = 64 * 1024
_MAX_HEAD: Final = 16 * 1024
_TCP_INFO: Final = struct.Struct("=8BI")
"""The beginning of the kernel's ``struct tcp_info``: state, ca_state, retransmits, probes, backoff,
options, scales, flags, and the time until it sends again in microseconds (linux/tcp.h)."""
_RETRANSMITS: Final = 2
_MICROSECONDS: Final = 1_000_000


class Forwarder(Line):
    """Listens for the links and passes them on; knows, too, how the line is."""

    def __init__(self, *, listen: tuple[str, int], target: Address) -> None:
        """Take note.

        Args:
            listen: host and port that the links dial.
            target: the cloud's broker.
        """
        self._listen = listen
        self._target = target
        self._open: set[socket.socket] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._is_refused = False

    async def run(self) -> None:
        """Pass connections on until cancelled."""
        server = await asyncio.start_server(self._pass_on, *self._listen, limit=_PIECE)
        log.info("links_forwarded", target=str(self._target))
        try:
            async with server:
                await server.serve_forever()
        finally:
            for each in self._passing:
                each.cancel()
            await asyncio.gather(*self._passing, return_exceptions=True)

    @override
    def connections(self) -> list[Connection]:
        return [_look_at(each) for each in self._open]

    @override
    async def is_reachable(self) -> bool:
        try:
            async with asyncio.timeout(REACHED_WITHIN_SECONDS):
                _, writer = await self._dial()
        except (OSError, TimeoutError, DialError):
            return False
        await _abort(writer)
        return True

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._forward(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        await asyncio.wait({task})

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                async with asyncio.timeout(DIAL_SECONDS):
                    there = await self._dial()
            except (OSError, TimeoutError, DialError) as exc:
                self._say_once(exc)
                return
            self._is_refused = False
            await self._join((reader, writer), there)
        finally:
            await _abort(writer)  # the link dials again by itself

    async def _join(
        self,
        here: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Pass on in both directions until one of them ends."""
        plug: socket.socket = there[1].get_extra_info("socket")
        self._open.add(plug)
        ways = [
            asyncio.create_task(_pipe(here[0], there[1])),
            asyncio.create_task(_pipe(there[0], here[1])),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open.discard(plug)
            for each in ways:
                each.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            try:
                await _end(here[1], there[1])
            finally:
                await _abort(there[1])

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection to the cloud's broker, through the proxy if there is one.

        Raises:
            OSError: there is none.
            DialError: the proxy does not connect.
        """
        proxy = proxy_for(self._target)
        if proxy is None:
            return await asyncio.open_connection(self._target.host, self._target.port)
        reader, writer = await asyncio.open_connection(
            proxy.hostname or "", proxy.port or PROXY_PORT, limit=_MAX_HEAD
        )
        try:
            await _ask(reader, writer, proxy, self._target)
        except BaseException:
            await _abort(writer)
            raise
        return reader, writer

    def _say_once(self, exc: Exception) -> None:
        if not self._is_refused:
            self._is_refused = True
            log.warning(
                "link_not_forwarded", target=str(self._target), reason=str(exc) or repr(exc)
            )


async def _ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    proxy: SplitResult,
    target: Address,
) -> None:
    writer.write(proxy_request(proxy, target))
    await writer.drain()
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        head = exc.partial
    except asyncio.LimitOverrunError:
        head = b""
    check_proxy_answer(head, proxy, target)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on until there is no more, or nobody takes it."""
    with contextlib.suppress(OSError):  # the other end went: so does this one
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()


async def _end(*writers: asyncio.StreamWriter) -> None:
    """Close what is open, the last words included: they may be the reason for the end."""
    for each in writers:
        each.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            await asyncio.gather(*(each.wait_closed() for each in writers), return_exceptions=True)


async def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _look_at(plug: socket.socket) -> Connection:
    try:
        info = plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return Connection(silent_seconds=0.0)  # it is being closed
    fields = _TCP_INFO.unpack(info)
    is_silent = fields[_RETRANSMITS] > 0
    return Connection(silent_seconds=fields[-1] / _MICROSECONDS if is_silent else 0.0)
