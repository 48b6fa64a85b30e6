"""The API is there for the gateway itself though it may not have its address for pods."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from fedge_meta.api import waiting
from tests.fixtures.servers import free_ports


async def test_address_that_cannot_be_had_is_told_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(waiting, "take_address", refused)
    [port] = free_ports(1)
    told: list[str] = []
    served = asyncio.Event()

    async def listens(address: str) -> None:
        told.append(address)
        with socket.create_connection(("127.0.0.1", port)):
            pass

    async def serve(sockets: Sequence[socket.socket]) -> None:
        assert [each.getsockname()[0] for each in sockets] == ["127.0.0.1"]
        served.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(
        waiting.wait_and_serve("169.254.30.10", port, serve, listens=listens)
    )
    async with asyncio.timeout(10):
        await served.wait()
    running.cancel()
    await asyncio.wait({running})
    assert told == [""]
