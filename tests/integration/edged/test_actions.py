"""What probes and hooks do, against real servers on the loopback address."""

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from grpc import aio

from fedge_cri._generated import health_pb2 as health
from fedge_cri._generated import health_pb2_grpc as health_grpc
from fedge_cri.fake import FakeRuntime
from fedge_edged.actions import NodeActions, Outcome, Target
from fedge_edged.pods import (
    Container,
    ContainerPort,
    GrpcAction,
    HttpGetAction,
    HttpHeader,
    SleepAction,
    TcpSocketAction,
)

Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    actions = NodeActions(FakeRuntime())

    async def run(action: Any, *, port: int = 0, seconds: float = 5.0) -> Outcome:
        ports = [ContainerPort(container_port=port, name="web")] if port else []
        target = Target(
            container_id="c", container=Container(name="main", ports=ports), address="127.0.0.1"
        )
        return await actions.run(action, target, timeout_seconds=seconds)

    return run


class Health(health_grpc.HealthServicer):
    """Serves all but one service."""

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        del context
        serving = health.HealthCheckResponse.ServingStatus
        good = request.service != "sick"
        return health.HealthCheckResponse(status=serving.SERVING if good else serving.NOT_SERVING)


@pytest.fixture
async def grpc_port() -> AsyncIterator[int]:
    server = aio.server()
    health_grpc.add_HealthServicer_to_server(Health(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(grace=None)


async def test_grpc_service_is_asked_how_it_is(run: Run, grpc_port: int) -> None:
    assert (await run(GrpcAction(port=grpc_port))).is_good
    sick = await run(GrpcAction(port=grpc_port, service="sick"))
    assert (sick.is_good, "NOT_SERVING" in sick.text) == (False, True)


async def test_nobody_there_is_a_failure(run: Run, unused_tcp_port: int) -> None:
    for action in (
        GrpcAction(port=unused_tcp_port),
        TcpSocketAction(port=unused_tcp_port),
        HttpGetAction(port=unused_tcp_port),
    ):
        outcome = await run(action)
        assert outcome.is_good is False
        assert outcome.text


class Pages(BaseHTTPRequestHandler):
    """Says by the path how it answers."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012 - of all requests

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("X-Probe", "")))
        kind, _, rest = self.path.removeprefix("/").partition("/")
        if kind == "redirect":
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", rest if "://" in rest else f"/{rest}")
        else:
            self.send_response(int(kind or 200))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
async def http_port() -> AsyncIterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1]
    await asyncio.to_thread(server.shutdown)
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "good"),
    [
        ("/", True),
        ("200", True),
        ("/302", True),
        ("/399", True),
        ("/400", False),
        ("/500", False),
        ("/redirect/204", True),
        ("/redirect/503", False),
        ("/redirect/http://other.example/", True),
    ],
)
async def test_page_says_by_its_status(run: Run, http_port: int, path: str, *, good: bool) -> None:
    headers = [HttpHeader(name="X-Probe", value="yes")]
    outcome = await run(HttpGetAction(port="web", path=path, http_headers=headers), port=http_port)
    assert outcome.is_good is good
    if not good:
        assert "HTTP probe failed with statuscode" in outcome.text
    assert Pages.asked[-1][1] == "yes"


async def test_connection_is_enough_for_a_socket(run: Run, http_port: int) -> None:
    assert (await run(TcpSocketAction(port="web"), port=http_port)).is_good


async def test_port_that_the_container_does_not_name_is_told(run: Run) -> None:
    outcome = await run(TcpSocketAction(port="web"))
    assert outcome.text == 'couldn\'t find port "web" in container main'


async def test_what_takes_too_long_is_a_failure(run: Run) -> None:
    outcome = await run(SleepAction(seconds=60), seconds=0.05)
    assert (outcome.is_good, outcome.text) == (False, "timed out after 0.05 s")
