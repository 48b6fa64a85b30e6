"""The port that everybody may reach."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator

import pytest

from fedge_enrolment.dialling import context_of
from fedge_enrolment.names import BROKER
from tests.security.conftest import Node, System

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]

HALF_OPEN = 10_000


@pytest.fixture
async def many_files() -> AsyncIterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < HALF_OPEN + 1000:
        pytest.skip(f"this system lets a process have only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_ten_thousand_half_open_connections_keep_nobody_out(
    system: System, many_files: None
) -> None:
    address = system.enrolment.host, system.enrolment.port
    loop = asyncio.get_running_loop()
    held: list[socket.socket] = []
    try:
        for _ in range(HALF_OPEN):
            each = socket.socket()
            each.setblocking(False)
            held.append(each)
            async with asyncio.timeout(20):
                await loop.sock_connect(each, address)
        began = loop.time()
        node = await system.join("patient")
        assert loop.time() - began < 15
        async with node.connected():
            pass
    finally:
        for each in held:
            each.close()
    hub = system.stack.server("cloud", "hub").process
    assert hub is not None


async def test_what_does_not_begin_with_tls_is_dropped(system: System) -> None:
    address = system.enrolment.host, system.enrolment.port
    for said in (
        b"GET /v1/ca HTTP/1.1\r\n\r\n",
        b"AMQP\x00\x00\x09\x01",
        bytes(64),
        b"\x16\x03\x01\xff\xff",
    ):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(said)
        async with asyncio.timeout(15):
            with contextlib.suppress(ConnectionError):
                assert await reader.read(100) == b""
        writer.close()


async def test_one_port_does_for_the_broker_too(mallory: Node, system: System) -> None:
    """By the name that is asked for, and still encrypted up to the broker."""
    context = context_of(
        mallory.identity.authorities,
        certificate=mallory.identity.certificate,
        key=mallory.identity.key,
    )
    reader, writer = await asyncio.open_connection(
        system.enrolment.host, system.enrolment.port, ssl=context, server_hostname=BROKER
    )
    writer.write(b"AMQP\x00\x00\x09\x01")
    async with asyncio.timeout(10):
        greeting = await reader.read(64)
    assert greeting.startswith(b"\x01")
    assert b"RabbitMQ" in greeting + await reader.read(512)
    writer.close()
