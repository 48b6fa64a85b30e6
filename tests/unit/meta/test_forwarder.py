"""The links' way through a proxy: bytes as they are, an end at one side is an end at both."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from fedge_enrolment.dialling import Address
from fedge_meta.forwarder import Forwarder
from fedge_service import backoff
from tests.fixtures.proxy import Proxy, proxy

DEADLINE_SECONDS = 10.0


class Broker:
    """Answers with what it hears, until it hangs up."""

    def __init__(self) -> None:
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                if piece == b"bye":
                    writer.write(b"last words")
                    break
                writer.write(piece)
                await writer.drain()
        await close(writer)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    found = Broker()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found
        server.close()
        for each in found.writers:
            each.transport.abort()


@pytest.fixture
async def way(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    async with proxy(account="gateway:p%40ss") as found:
        found.account = "gateway:p@ss"
        monkeypatch.setenv("HTTPS_PROXY", f"http://gateway:p%40ss@127.0.0.1:{found.port}")
        monkeypatch.delenv("https_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        yield found


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@asynccontextmanager
async def forwarding(target: int) -> AsyncIterator[tuple[Forwarder, int]]:
    port = free_port()
    forwarder = Forwarder(listen=("127.0.0.1", port), target=Address("127.0.0.1", target))
    running = asyncio.create_task(forwarder.run())
    try:
        async for _ in backoff(first_seconds=0.01, most_seconds=0.1):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                await close(writer)
                break
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield forwarder, port
    finally:
        running.cancel()
        await asyncio.wait({running})


async def until_connected(forwarder: Forwarder, count: int) -> None:
    async for _ in backoff(first_seconds=0.01, most_seconds=0.1):
        if len(forwarder.connections()) == count:
            return


async def test_bytes_pass_in_both_directions_through_the_proxy(way: Proxy, broker: Broker) -> None:
    sent = os.urandom(3_000_000)
    async with forwarding(broker.port) as (forwarder, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send() -> None:
            writer.write(sent)
            await writer.drain()

        sending = asyncio.create_task(send())
        assert await reader.readexactly(len(sent)) == sent
        await sending
        await until_connected(forwarder, 1)
        assert all(each.silent_seconds == 0.0 for each in forwarder.connections())
        assert f"127.0.0.1:{broker.port}" in way.targets
        await close(writer)


async def test_an_end_is_passed_on_with_the_last_words(way: Proxy, broker: Broker) -> None:
    async with forwarding(broker.port) as (forwarder, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"bye")
        assert await reader.read() == b"last words"
        await close(writer)
        await until_connected(forwarder, 0)


async def test_a_broken_proxy_breaks_the_links_so_that_they_dial_again(
    way: Proxy, broker: Broker
) -> None:
    async with forwarding(broker.port) as (forwarder, port):
        for number in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await until_connected(forwarder, 1)
            way.drop()
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b"", number
            await close(writer)
            await until_connected(forwarder, 0)
        assert await forwarder.is_reachable()


async def test_what_a_proxy_refuses_is_told_once_and_not_reached(
    way: Proxy, broker: Broker
) -> None:
    way.refuses = True
    with capture_logs() as logs:
        async with forwarding(broker.port) as (forwarder, port):
            assert not await forwarder.is_reachable()
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                await close(writer)
            way.refuses = False
            assert await forwarder.is_reachable()
    told = [each for each in logs if each["event"] == "link_not_forwarded"]
    assert len(told) == 1
    assert "does not connect to" in told[0]["reason"]
    assert "p@ss" not in str(logs)


async def test_a_cloud_that_is_away_is_not_reached(way: Proxy) -> None:
    async with forwarding(free_port()) as (forwarder, _):
        assert not await forwarder.is_reachable()


async def test_without_a_proxy_it_goes_straight(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with forwarding(broker.port) as (forwarder, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert await forwarder.is_reachable()
        await close(writer)
