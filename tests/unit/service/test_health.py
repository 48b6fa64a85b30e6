"""Probes of services that serve no HTTP of their own, over a real socket."""

import asyncio
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from http import HTTPStatus
from urllib.error import HTTPError

import pytest

from fedge_service import HealthSettings
from fedge_service._health import Health


class Probed:
    """What is asked, and where."""

    def __init__(self, health: Health, port: int) -> None:
        self.health = health
        self.port = port

    async def get(self, path: str) -> tuple[int, str]:
        def ask() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as it:
                    return it.status, it.read().decode()
            except HTTPError as exc:
                with exc:
                    return exc.code, exc.read().decode()

        return await asyncio.to_thread(ask)

    async def send(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


@pytest.fixture
async def probed() -> AsyncIterator[Probed]:
    health = Health(["controller", "device"])
    settings = HealthSettings(port=free_port())
    async with health.served(settings) as port:
        assert port == settings.port
        yield Probed(health, port)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def test_process_is_ready_once_all_its_services_are(probed: Probed) -> None:
    assert await probed.get("/livez") == (HTTPStatus.OK, "ok\n")
    assert await probed.get("/readyz") == (503, "controller: starting, device: starting\n")
    probed.health.ready("controller")
    assert await probed.get("/readyz") == (503, "device: starting\n")
    probed.health.ready("device")
    assert await probed.get("/readyz?verbose") == (HTTPStatus.OK, "ok\n")


async def test_service_that_failed_is_not_ready_until_it_says_so(probed: Probed) -> None:
    probed.health.ready("controller")
    probed.health.ready("device")
    probed.health.failed("device")
    assert await probed.get("/readyz") == (503, "device: failed, is started again\n")
    assert (await probed.get("/livez"))[0] == HTTPStatus.OK
    probed.health.ready("device")
    assert (await probed.get("/readyz"))[0] == HTTPStatus.OK


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"404 "),
        (b"POST /livez HTTP/1.1\r\n\r\n", b"405 "),
        (b"hello\r\n\r\n", b"400 "),
        (b"\x16\x03\x01\r\n\r\n", b"400 "),
        (b"GET /livez HTTP/1.1\r\nX: " + b"x" * 10_000, b"400 "),
    ],
)
async def test_what_is_no_probe_is_refused_and_others_are_answered(
    probed: Probed, request_: bytes, status: bytes
) -> None:
    assert (await probed.send(request_)).startswith(b"HTTP/1.1 " + status)
    assert (await probed.get("/livez"))[0] == HTTPStatus.OK


async def test_clients_that_say_nothing_are_few(probed: Probed) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", probed.port) for _ in range(40)]
    async with asyncio.timeout(10):
        for reader, _ in silent[32:]:
            assert await reader.read() == b""  # closed at once
        for reader, _ in silent[:32]:
            assert await reader.read() == b""  # and these after a while
    assert (await probed.get("/livez"))[0] == HTTPStatus.OK
    for _, writer in silent:
        writer.close()


def test_port_in_use_is_named_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "fedge_service", "controller"],
            env={**os.environ, "FEDGE_HEALTH_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    [told] = [line for line in done.stderr.splitlines() if line.startswith("fedge: ")]
    assert f"127.0.0.1:{port}" in told
    assert "FEDGE_HEALTH_PORT" in told


def test_wrong_port_is_named_by_its_variable() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedge_cli", "run", "device"],
        env={**os.environ, "FEDGE_HEALTH_PORT": "99999"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("FEDGE_HEALTH_PORT: ")
