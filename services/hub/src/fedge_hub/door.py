"""The port that the world may reach: it lets through whoever begins with TLS, and soon.

Before a connection has said a whole TLS ClientHello it costs a buffer and a timer, and no more than
so many may be in that state: above that the one that has waited longest is dropped. So half-open
connections, however many, keep nobody out. By the name that the client asks for (SNI, RFC 6066) it
is handed to hub itself or, so that one port does for everything, to the broker, still encrypted.
"""

import asyncio
import contextlib
import resource
import socket
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog

log = structlog.stdlib.get_logger("fedge.hub")

HELLO_SECONDS: Final = 5.0
MAX_WAITING: Final = 512
MAX_OPEN: Final = 4096
IDLE_SECONDS: Final = 20.0
_MAX_HELLO: Final = 16 * 1024
_BACKLOG: Final = 4096
_PIECE: Final = 64 * 1024
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0


class NotTlsError(Exception):
    """It does not begin like TLS."""


class Door:
    """Listens, and hands on.

    Args:
        rooms: host and port by server name.
        otherwise: where to send clients that name none of these.
        idle: rooms whose connections end when nothing is said for `IDLE_SECONDS`.
    """

    def __init__(
        self,
        *,
        rooms: Mapping[str, tuple[str, int]],
        otherwise: str,
        idle: frozenset[str],
    ) -> None:
        self._rooms = dict(rooms)
        self._otherwise = otherwise
        self._idle = idle
        self._waiting: OrderedDict[asyncio.StreamWriter, None] = OrderedDict()
        self._inside: set[asyncio.Task[Any] | None] = set()
        self._open = 0
        self._dropped = 0
        self._peers: dict[int, str] = {}

    def peer_of(self, port: int) -> str:
        """Return who is behind a connection that comes from the door's own port."""
        return self._peers.get(port, "unknown")

    async def run(self, listening: socket.socket) -> None:
        """Serve until cancelled."""
        _allow_many_files()
        server = await asyncio.start_server(
            self._enter, sock=listening, limit=_MAX_HELLO, backlog=_BACKLOG
        )
        try:
            async with server:
                await server.serve_forever()
        finally:
            await _cancelled(self._inside)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._inside.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._inside.discard(task)
            await _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        self._make_room()
        self._waiting[writer] = None
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = await _read_hello(reader)
        except (TimeoutError, NotTlsError, asyncio.IncompleteReadError, OSError) as exc:
            if isinstance(exc, NotTlsError):
                log.warning("connection_refused", peer=_text(peer), reason=str(exc))
            return
        finally:
            self._waiting.pop(writer, None)
        name = server_name(hello)
        if self._open >= MAX_OPEN:
            log.warning("connection_refused", peer=_text(peer), reason="too many are open")
            return
        self._open += 1
        try:
            room = name if name in self._rooms else self._otherwise
            await self._hand_on(reader, writer, hello, room, _text(peer))
        finally:
            self._open -= 1

    def _make_room(self) -> None:
        while len(self._waiting) >= MAX_WAITING:
            longest, _ = self._waiting.popitem(last=False)
            longest.transport.abort()
            self._dropped += 1
            if self._dropped % MAX_WAITING == 1:
                log.warning("half_open_connections_dropped", dropped=self._dropped)

    async def _hand_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hello: bytes,
        room: str,
        peer: str,
    ) -> None:
        try:
            inner, outer = await asyncio.open_connection(*self._rooms[room])
        except OSError as exc:
            log.warning("room_away", room=room, reason=str(exc))
            return
        port = outer.get_extra_info("sockname")[1]
        self._peers[port] = peer
        idle = IDLE_SECONDS if room in self._idle else None
        try:
            outer.write(hello)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass_on(reader, outer, idle))
                tasks.create_task(_pass_on(inner, writer, idle))
        except* (OSError, TimeoutError) as group:
            log.debug("connection_ended", peer=peer, room=room, reason=repr(group.exceptions[0]))
        finally:
            self._peers.pop(port, None)
            await _abort(outer)


async def _cancelled(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    running = [each for each in tasks if each is not None]
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: float | None
) -> None:
    while True:
        async with asyncio.timeout(idle):
            piece = await reader.read(_PIECE)
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def _read_hello(reader: asyncio.StreamReader) -> bytes:
    """Return the first TLS record, which begins a handshake.

    Raises:
        NotTlsError: it is something else.
    """
    head = await reader.readexactly(5)
    length = int.from_bytes(head[3:5], "big")
    if head[0] != _HANDSHAKE or head[1] != 3 or not 4 <= length <= _MAX_HELLO:  # noqa: PLR2004
        raise NotTlsError(f"it begins with {head!r}, which is not TLS")
    body = await reader.readexactly(length)
    if body[0] != _CLIENT_HELLO:
        raise NotTlsError("its first message is not a ClientHello")
    return head + body


def server_name(hello: bytes) -> str:
    """Return the name that a ClientHello asks for; empty if it asks for none.

    https://www.rfc-editor.org/rfc/rfc8446#section-4.1.2, https://www.rfc-editor.org/rfc/rfc6066
    """
    try:
        at = 5 + 4 + 2 + 32  # record, handshake, version, random
        at += 1 + hello[at]  # session
        at += 2 + int.from_bytes(hello[at : at + 2], "big")  # cipher suites
        at += 1 + hello[at]  # compression
        end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
        at += 2
        while at + 4 <= min(end, len(hello)):
            kind = int.from_bytes(hello[at : at + 2], "big")
            size = int.from_bytes(hello[at + 2 : at + 4], "big")
            if kind == _SERVER_NAME:
                length = int.from_bytes(hello[at + 7 : at + 9], "big")
                return hello[at + 9 : at + 9 + length].decode("ascii")
            at += 4 + size
    except (IndexError, UnicodeDecodeError):
        return ""
    return ""


def _allow_many_files() -> None:
    """Raise this process's limit of open files to what the system lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _text(peer: object) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unknown"
