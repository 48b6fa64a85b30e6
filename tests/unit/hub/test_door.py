"""The port: who begins with TLS is handed on by the name that it asks for."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_hub import door
from fedge_hub.door import Door, server_name
from fedge_service import backoff

DEADLINE_SECONDS = 20.0


def hello_for(name: str | None) -> bytes:
    """Return the ClientHello of a real client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(into, out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z]{1,10}){0,4}", fullmatch=True)


@given(names.filter(lambda name: not name.replace(".", "").isdigit()))
def test_the_name_is_what_a_client_asks_for(name: str) -> None:
    assert server_name(hello_for(name)) == name


def test_a_client_that_names_nobody_has_no_name() -> None:
    assert server_name(hello_for(None)) == ""


@given(st.binary(max_size=300), st.integers(0, 600))
def test_whatever_it_says_a_hello_is_read_or_has_no_name(noise: bytes, place: int) -> None:
    assert isinstance(server_name(noise), str)
    hello = hello_for("hub.fedge.internal")
    assert isinstance(server_name(hello[:place]), str)
    assert isinstance(server_name(hello[:place] + noise + hello[place + len(noise) :]), str)


class Room:
    """A server behind the door, which says its name and what it was told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(f"{self.name}:".encode())
            while piece := await reader.read(65536):
                self.heard += piece
                writer.write(piece)
                await writer.drain()
        await close(writer)


@asynccontextmanager
async def opened(*, otherwise: str = "hub") -> AsyncIterator[tuple[int, dict[str, Room]]]:
    async with contextlib.AsyncExitStack() as stack:
        rooms = {name: Room(name) for name in ("hub", "broker")}
        addresses = {}
        for name, room in rooms.items():
            server = await asyncio.start_server(room.serve, "127.0.0.1", 0)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            addresses[name] = ("127.0.0.1", server.sockets[0].getsockname()[1])
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        found = Door(rooms=addresses, otherwise=otherwise, idle=frozenset({"hub"}))
        running = asyncio.create_task(found.run(listening))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                yield listening.getsockname()[1], rooms
        finally:
            running.cancel()
            await asyncio.wait({running})


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("name", "room"), [("hub", "hub"), ("broker", "broker"), ("else", "hub"), (None, "hub")]
)
async def test_a_connection_is_handed_on_whole(name: str | None, room: str) -> None:
    hello = hello_for(name)
    async with opened() as (port, rooms):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for at in range(0, len(hello), 100):  # it comes in pieces
            writer.write(hello[at : at + 100])
            await writer.drain()
        writer.write(b"more")
        said = f"{room}:".encode() + hello + b"more"
        assert await reader.readexactly(len(said)) == said
        assert rooms[room].heard == hello + b"more"
        await close(writer)


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", b"AMQP\x00\x00\x09\x01", b"\x16\x03\x01\x00\x04\x02abc"]
)
async def test_what_is_no_tls_is_dropped_at_once(first: bytes) -> None:
    async with opened() as (port, rooms):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert not any(room.heard for room in rooms.values())
        await close(writer)


async def test_the_longest_silent_goes_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "MAX_WAITING", 4)
    monkeypatch.setattr(door, "HELLO_SECONDS", 600.0)
    async with opened() as (port, _):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
        for reader, _ in silent[:8]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(hello_for("hub"))
        assert (await reader.readexactly(4)) == b"hub:"
        for _, each in [*silent, (reader, writer)]:
            await close(each)


async def test_who_says_nothing_is_dropped_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "HELLO_SECONDS", 0.05)
    async with opened() as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(hello_for("hub")[:20])
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        await close(writer)


async def test_no_more_are_open_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_OPEN", 2)
    async with opened() as (port, _):
        inside = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(hello_for("broker"))
            assert await reader.readexactly(7) == b"broker:"
            inside.append(writer)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(hello_for("broker"))
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        await close(writer)
        await close(inside.pop())
        async for _ in backoff(first_seconds=0.01, most_seconds=0.1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(hello_for("broker"))
            try:
                said = await reader.read(7)
            except ConnectionResetError:
                said = b""
            await close(writer)
            if said:
                break
        await close(inside.pop())
