"""Commands asked for in messages that come twice, late, or to an edged that was killed meanwhile.

A real RabbitMQ and a real containerd; what ran is counted in a file that the command appends to.
"""

import asyncio
import base64
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from typing_extensions import override

from fedge_cri.client import CriRuntime
from fedge_edged import streams
from fedge_edged.execs import Execs
from fedge_edged.handlers import Handlers
from fedge_edged.log_requests import LogRequests
from fedge_edged.once import Once
from fedge_fabric import Address, Envelope, MessageClass, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_local.hosts import EdgeHost
from fedge_objects import NodeName
from fedge_service import backoff
from fedge_store import BegunRequests
from tests.fixtures.servers import Broker
from tests.integration.edged.node import RealNode

pytestmark = [pytest.mark.containerd, pytest.mark.broker]

COUNT = "/ran"
SHELL = "/bin/busybox"
Piece = dict[str, Any]


class Within(CriRuntime):
    """The runtime in its host, whose loopback address serves the commands' streams."""

    host: EdgeHost
    servers: list[asyncio.Server]

    @override
    async def exec_url(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    ) -> str:
        url = urlsplit(
            await super().exec_url(
                container_id, command, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty
            )
        )

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner = await self.host.connect("127.0.0.1", url.port or 0)
            far_reader, far_writer = await asyncio.open_connection(sock=inner)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        self.servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return url._replace(netloc=f"127.0.0.1:{port}").geturl()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
    writer.close()


class Clock:
    def now(self) -> float:
        return time.time()


class Asker:
    """Asks as hub does, and says of every request that it may begin, however often it is asked."""

    def __init__(self, url: str, node: NodeName) -> None:
        self.fabric = Fabric(url, service="asker", exchanges=t.CLOUD_EXCHANGES)
        self.fabric.subscribe(
            t.Queue(f"asker.{node}", (t.Binding(t.UP, f"node.{node}.request.#"),), exclusive=True),
            self._on_answer,
        )
        self.node = node
        self.lets_begin = True
        self._pieces: dict[str, list[Piece]] = {}
        self._news = asyncio.Condition()

    async def _on_answer(self, delivery: Delivery) -> None:
        envelope = delivery.envelope
        if envelope.data.get("ready") and self.lets_begin:
            await self.say(envelope.subject, begin=True)
        async with self._news:
            self.of(envelope.subject).append(envelope.data)
            self._news.notify_all()

    def of(self, request_id: str) -> list[Piece]:
        return self._pieces.setdefault(request_id, [])

    async def until(self, condition: Callable[[], object], *, seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: bool(condition()))

    async def ended(self, request_id: str) -> Piece:
        """Wait for the last piece of an answer."""
        await self.until(lambda: any(each["last"] for each in self.of(request_id)))
        return next(each for each in self.of(request_id) if each["last"])

    async def say(self, request_id: str, **said: object) -> None:
        data = {"seen": 0, "over": False, **said}
        await self._send(
            "stream",
            Envelope(type=kinds.STREAM_HEARD, source="/cloud/hub", subject=request_id, data=data),
        )

    async def ask(
        self, script: str, *, deadline_seconds: float = 15.0, tty: bool = False
    ) -> Envelope:
        """Ask for a command; return the message, to be sent again."""
        request = Envelope(
            type=kinds.EXEC_ASKED,
            source="/cloud/hub",
            data={
                "namespace": "default",
                "pod": "a",
                "container": "main",
                "command": [SHELL, "sh", "-c", script],
                "stdin": tty,
                "tty": tty,
                "deadline_seconds": deadline_seconds,
            },
        )
        await self.again(request)
        return request

    async def again(self, request: Envelope) -> None:
        await self._send("exec", request)

    async def _send(self, word: str, envelope: Envelope) -> None:
        await self.fabric.publish(
            envelope,
            exchange=t.DOWN,
            routing_key=str(Address(self.node, MessageClass.REQUEST, (word,))),
            mandatory=True,
        )


class Edge:
    """Edged's answers to requests, of which one after the other is killed."""

    def __init__(self, node: RealNode, runtime: Within, url: str, name: NodeName) -> None:
        self.node = node
        self.runtime = runtime
        self.name = name
        self._url = url

    @asynccontextmanager
    async def edged(self) -> AsyncIterator[None]:
        """Serve until left, which is as sudden as a kill for whatever is asked."""
        assert self.node.pods is not None
        assert self.node.tools is not None
        once = Once(BegunRequests(self.node.folder / "begun.db"), Clock())
        execs = Execs(self.runtime, self.node.pods, once)
        fabric = Fabric(self._url, service="edged", exchanges=t.EDGE_EXCHANGES)
        async with asyncio.TaskGroup() as tasks:
            handlers = Handlers(
                node=self.name,
                log_requests=LogRequests(self.node.pods, self.node.tools.specs),
                execs=execs,
                fabric=fabric,
                take=lambda _: None,
                report_all=lambda: None,
                take_token=lambda _: None,
                take_heard=lambda _: None,
                tasks=tasks,
            )
            handlers.subscribe()
            lost = await execs.begun_before()
            async with fabric.running():
                await handlers.tell_lost(lost)
                yield
            for each in list(tasks._tasks):
                each.cancel()

    async def ran(self) -> int:
        """Return how often commands had their effect."""
        [container] = await self.node.containers()
        script = f"{SHELL} cat {COUNT} 2>/dev/null | {SHELL} wc -l"
        told = await self.node.runtime.exec_sync(
            container.id, [SHELL, "sh", "-c", script], timeout_seconds=10
        )
        return int(told.stdout)

    async def running(self, word: str) -> int:
        """Return how many processes in the container have a word in their command."""
        [container] = await self.node.containers()
        told = await self.node.runtime.exec_sync(container.id, [SHELL, "ps"], timeout_seconds=10)
        return told.stdout.decode().count(word)


async def becomes(count: Callable[[], Awaitable[int]], wanted: int) -> None:
    """Wait for something in a container, which nobody tells."""
    async with asyncio.timeout(20):
        async for _ in backoff(first_seconds=0.05, most_seconds=0.5):
            if await count() == wanted:
                return


@pytest.fixture
async def edge(node: RealNode, rabbitmq: Broker) -> AsyncIterator[Edge]:
    node.put("pods", node.pod())
    await node.runs()
    async with Within.connected(node.server.socket) as runtime:
        runtime.host, runtime.servers = node.server.host, []
        yield Edge(node, runtime, rabbitmq.url, NodeName(f"gw-{uuid.uuid4().hex[:8]}"))
        for server in runtime.servers:
            server.close()
            await server.wait_closed()


@pytest.fixture
async def asker(edge: Edge, rabbitmq: Broker) -> AsyncIterator[Asker]:
    asker = Asker(rabbitmq.url, edge.name)
    async with asker.fabric.running():
        yield asker


def said(pieces: Sequence[Piece]) -> bytes:
    """Return what a command wrote, in order."""
    frames = {each["index"]: base64.b64decode(each["frame"]) for each in pieces if "frame" in each}
    return b"".join(frame[1:] for _, frame in sorted(frames.items()) if frame[:1] == b"\1")


async def test_command_that_is_asked_for_twice_runs_once(edge: Edge, asker: Asker) -> None:
    async with edge.edged():
        request = await asker.ask(f"echo x >> {COUNT}; echo done")
        await asker.again(request)
        await asker.ended(request.id)
        assert said(asker.of(request.id)) == b"done\n"
        before = len(asker.of(request.id))
        await asker.again(request)
        other = await asker.ask(
            "true"
        )  # begun later, so that ended means that the other is through
        await asker.ended(other.id)
        assert len(asker.of(request.id)) == before
        assert await edge.ran() == 1


async def test_command_that_a_killed_edged_had_begun_is_not_run_again(
    edge: Edge, asker: Asker
) -> None:
    async with edge.edged():
        request = await asker.ask(f"echo x >> {COUNT}; exec {SHELL} sleep 1000")
        await becomes(edge.ran, 1)
    async with edge.edged():
        told = await asker.ended(request.id)
        assert (told["status"], told["cut"]) == (409, True)
        assert "whether it ran to its end is not known. It is not run again" in told["body"]
        asker.of(request.id).clear()
        await asker.again(request)
        again = await asker.ended(request.id)
        assert again["body"] == told["body"]
        assert not any(each.get("ready") for each in asker.of(request.id))
        assert await edge.ran() == 1


async def test_command_of_which_nobody_says_that_it_is_wanted_never_runs(
    edge: Edge, asker: Asker
) -> None:
    asker.lets_begin = False
    async with edge.edged():
        request = await asker.ask(f"echo x >> {COUNT}", deadline_seconds=0.5)
        told = await asker.ended(request.id)
        assert told["status"] == 504
        assert "it was not begun" in told["body"]
        await asker.say(request.id, begin=True)  # too late
        asker.lets_begin = True
        other = await asker.ask("true")
        await asker.ended(other.id)
        assert await edge.ran() == 0


async def test_command_that_was_not_begun_runs_when_it_comes_again(
    edge: Edge, asker: Asker
) -> None:
    asker.lets_begin = False
    async with edge.edged():
        request = await asker.ask(f"echo x >> {COUNT}")
        await asker.until(lambda: asker.of(request.id))
    asker.lets_begin = True
    async with edge.edged():
        await asker.again(request)
        await asker.ended(request.id)
        assert await edge.ran() == 1


@pytest.mark.parametrize("command", ["busybox sleep 1111", "busybox sh -i"])
async def test_terminal_that_nobody_watches_any_more_is_hung_up(
    edge: Edge, asker: Asker, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(streams, "SILENCE_SECONDS", 2.0)
    monkeypatch.setattr(streams, "IDLE_SECONDS", 0.2)
    async with edge.edged():
        await asker.ask(f"exec /bin/{command}", tty=True)
        await becomes(partial(edge.running, command), 1)
        # the asker says no more
        await becomes(partial(edge.running, command), 0)
