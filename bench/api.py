"""How fast the embedded Kubernetes API is, and how much memory it takes.

Clients speak HTTP/1.1 over TLS on connections that stay open, as client libraries do; they only
count and compare, so that most of what is measured is the server. The floor of each rate is the
same HTTP server with an application that does nothing but answer as many bytes, in the same run.

- writes: pods made, then their statuses patched (each is on the disk when it is answered)
- reads: single pods, and now and then a page of them
- watches: two hundred watchers of all pods, while statuses change at a steady rate; the time is
  from the beginning of a write to the arrival of its event at a watcher
"""

import argparse
import asyncio
import os
import random
import re
import resource
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from bench.reporting import tell
from bench.running import free_ports
from bench.sampling import rss_mb

NAMESPACES = 20
CONNECTIONS = 32
WRITERS = 8
PAGE = 20
PAGE_EVERY = 20
SERVER = "from fedge_service import run_services; run_services(['apiserver'])"
BARE = "from bench.api import serve_bare; serve_bare({port}, {folder!r})"
START_SECONDS = 30
_SENT = re.compile(rb'"bench.fedge.io/sent":"(\d+)"')

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]
Ask = Callable[["Connection", int], Awaitable[None]]


class Connection:
    """One connection that asks and waits for the answer."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str
    ) -> None:
        self._reader, self._writer, self._head = reader, writer, head

    @classmethod
    async def opened(cls, server: "Server") -> "Connection":
        """Return one to a server."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=server.tls, server_hostname="localhost", limit=2**22
        )
        return cls(reader, writer, f"Host: localhost\r\nAuthorization: Bearer {server.token}\r\n")

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> bytes:
        """Return the answer's body.

        Raises:
            RuntimeError: it is a refusal.
        """
        self.send(method, path, body, kind)
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = head.lower().index(b"content-length:") + 15
        size = int(head[at : head.index(b"\r", at)])
        answer = await self._reader.readexactly(size)
        if not head.startswith(b"HTTP/1.1 20"):
            raise RuntimeError(f"{method} {path}: {answer.decode(errors='replace')[:400]}")
        return answer

    def send(self, method: str, path: str, body: bytes = b"", kind: str = "") -> None:
        """Only send a request."""
        extra = f"Content-Type: {kind}\r\n" if kind else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{extra}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)

    async def read(self) -> bytes:
        """Return what has arrived; empty at the end."""
        return await self._reader.read(2**18)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Server:
    """A server in a process of its own."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder
        self.tls = ssl.create_default_context()
        self.token = ""
        self.pid = 0

    @asynccontextmanager
    async def running(self, code: str) -> AsyncIterator["Server"]:
        """Run it inside the context."""
        environment = {
            **os.environ,
            "FEDGE_APISERVER_DATA_DIR": str(self.folder),
            "FEDGE_APISERVER_PORT": str(self.port),
        }
        with (self.folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, env=environment, stderr=log
            )
        self.pid = process.pid
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._answers(process)
            yield self
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _answers(self, process: asyncio.subprocess.Process) -> None:
        while True:
            if process.returncode is not None:
                raise RuntimeError((self.folder / "log").read_text())
            try:
                config = yaml.safe_load((self.folder / "kubeconfig").read_bytes())
                self.token = config["users"][0]["user"]["token"]
                self.tls = ssl.create_default_context(cafile=str(self.folder / "pki" / "ca.crt"))
                await (await Connection.opened(self)).ask("GET", "/readyz")
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return


def serve_bare(port: int, folder: str) -> None:
    """Serve an application that reads a request and answers with the same bytes each time."""
    import uvicorn  # noqa: PLC0415 - in the server's process only

    body = _answer_of_a_pod()
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def app(_: object, receive: _Receive, send: _Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    pki = Path(folder) / "pki"
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        log_level="error",
        access_log=False,
        ssl_certfile=str(pki / "server.crt"),
        ssl_keyfile=str(pki / "server.key"),
    )
    uvicorn.Server(config).run(sockets=[listening])


def _answer_of_a_pod() -> bytes:
    return b'{"kind":"Pod","padding":"' + b"x" * 2500 + b'"}'


def namespace_of(number: int) -> str:
    """Return where a pod lies."""
    return f"bench-{number % NAMESPACES}"


def pod_path(number: int, what: str = "") -> str:
    """Return a pod's path."""
    return f"/api/v1/namespaces/{namespace_of(number)}/pods/pod-{number}{what}"


def pod_body(number: int) -> bytes:
    """Return a pod as a user writes it."""
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"pod-{number}",
                "labels": {"app": f"app-{number % 50}", "tier": "edge"},
                "annotations": {"example.com/note": "made by a benchmark"},
            },
            "spec": {
                "schedulerName": "nobody",
                "containers": [
                    {
                        "name": "main",
                        "image": "registry.example.com/team/app:1.2.3",
                        "env": [{"name": f"VARIABLE_{i}", "value": "x" * 20} for i in range(5)],
                        "ports": [{"containerPort": 8080}],
                        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }
                ],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        }
    )


def status_body(ready: str) -> bytes:
    """Return a change of a pod's status, with the time of its sending."""
    condition = {"type": "Ready", "status": ready}
    sent = {"bench.fedge.io/sent": str(time.monotonic_ns())}
    return msgspec.json.encode(
        {
            "metadata": {"annotations": sent},
            "status": {"phase": "Running", "conditions": [condition]},
        }
    )


async def create(connection: Connection, number: int) -> None:
    """Make a pod."""
    path = f"/api/v1/namespaces/{namespace_of(number)}/pods"
    await connection.ask("POST", path, pod_body(number), "application/json")


async def patch(connection: Connection, number: int) -> None:
    """Change a pod's status."""
    kind = "application/strategic-merge-patch+json"
    await connection.ask("PATCH", pod_path(number, "/status"), status_body("True"), kind)


async def read(connection: Connection, number: int) -> None:
    """Read one pod, or now and then a page of them."""
    if number % PAGE_EVERY:
        await connection.ask("GET", pod_path(number))
    else:
        path = f"/api/v1/namespaces/{namespace_of(number)}/pods?limit={PAGE}"
        await connection.ask("GET", path)


async def rate(server: Server, ask: Ask, numbers: Sequence[int]) -> float:
    """Return how many requests a second are answered, from connections side by side."""
    connections = [await Connection.opened(server) for _ in range(CONNECTIONS)]
    waiting = iter(numbers)

    async def work(connection: Connection) -> None:
        for number in waiting:
            await ask(connection, number)

    begin = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for connection in connections:
            tasks.create_task(work(connection))
    seconds = time.monotonic() - begin
    for connection in connections:
        connection.close()
    return len(numbers) / seconds


class Watchers:
    """Connections that watch all pods, and how long each event took to each of them.

    Attributes:
        taken: seconds from the beginning of a write to the arrival of its event.
    """

    def __init__(self, connections: Sequence[Connection], expected: int) -> None:
        self._connections = connections
        self._expected = expected
        self._answered = asyncio.Semaphore(0)
        self._complete = asyncio.Event()
        self.taken: list[float] = []

    @asynccontextmanager
    async def watching(self, revision: str) -> AsyncIterator["Watchers"]:
        """Watch inside the context, which begins when all watches have."""
        tasks = [asyncio.create_task(self._watch(each, revision)) for each in self._connections]
        try:
            for _ in tasks:
                await self._answered.acquire()
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def arrived(self, seconds: float) -> int:
        """Return how many events have not come after so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._complete.wait()
        except TimeoutError:
            return self._expected - len(self.taken)
        return self._expected - len(self.taken)

    async def _watch(self, connection: Connection, revision: str) -> None:
        connection.send("GET", f"/api/v1/pods?watch=true&resourceVersion={revision}")
        rest = b""
        is_answered = False
        while piece := await connection.read():
            now = time.monotonic_ns()
            if not is_answered and b" 200 OK" in piece:
                is_answered = True
                self._answered.release()
            lines = rest + piece
            end = lines.rfind(b"\n") + 1
            rest = lines[end:]
            self.taken += [(now - int(each[1])) / 1e9 for each in _SENT.finditer(lines, 0, end)]
            if len(self.taken) >= self._expected:
                self._complete.set()


async def watched(
    server: Server, *, watchers: int, per_second: int, seconds: int, pods: int
) -> tuple[list[float], int]:
    """Return how long events took to each watcher, in seconds, and how many never came."""
    first, *connections = [await Connection.opened(server) for _ in range(WRITERS + 1 + watchers)]
    writers, watching = connections[:WRITERS], connections[WRITERS:]
    listing = await first.ask("GET", "/api/v1/pods?limit=1")
    revision = msgspec.json.decode(listing)["metadata"]["resourceVersion"]
    writes = per_second * seconds
    held = Watchers(watching, writes * watchers)
    async with held.watching(revision):
        turn = iter(range(writes))
        begin = time.monotonic()

        async def write(connection: Connection) -> None:
            for index in turn:
                await asyncio.sleep(max(0.0, begin + index / per_second - time.monotonic()))
                await patch(connection, random.randrange(pods))  # noqa: S311 - spread only

        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(write(writer))
        missing = await held.arrived(30)
    for each in (first, *connections):
        each.close()
    return held.taken, missing


async def measure(pods: int, watchers: int, seconds: int) -> dict[str, float | int]:
    """Run everything."""
    api_port, bare_port = free_ports(2)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(api_port, Path(folder))
        async with server.running(SERVER):
            first = await Connection.opened(server)
            for number in range(NAMESPACES):
                body = msgspec.json.encode({"metadata": {"name": f"bench-{number}"}})
                await first.ask("POST", "/api/v1/namespaces", body, "application/json")
            first.close()
            numbers = list(range(pods))
            random.shuffle(numbers)
            empty_mb = rss_mb(server.pid)
            creates = await rate(server, create, numbers)
            patches = await rate(server, patch, numbers)
            pods_mb = rss_mb(server.pid)
            reads = await rate(server, read, numbers * 2)
            taken, missing = await watched(
                server, watchers=watchers, per_second=200, seconds=seconds, pods=pods
            )
            end_mb = rss_mb(server.pid)
            bare = Server(bare_port, Path(folder))
            async with bare.running(BARE.format(port=bare_port, folder=folder)):
                bare_writes = await rate(bare, create, numbers)
                bare_reads = await rate(bare, read, numbers)
    both = 2 / (1 / creates + 1 / patches)
    cuts = statistics.quantiles(taken, n=100)
    return {
        "writes_per_s": round(both),
        "reads_per_s": round(reads),
        "watch_p99_ms": round(cuts[98] * 1000, 1),
        "rss_mb_10k_pods": round(pods_mb, 1),
        "creates_per_s": round(creates),
        "patches_per_s": round(patches),
        "write_ratio": round(both / bare_writes, 3),
        "read_ratio": round(reads / bare_reads, 3),
        "watch_p50_ms": round(cuts[49] * 1000, 1),
        "watch_missing": missing,
        "watchers": watchers,
        "pods": pods,
        "rss_mb_empty": round(empty_mb, 1),
        "rss_mb_end": round(end_mb, 1),
    }


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=15, help="how long watchers watch")
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most[1], most[1]))
    tell("api", asyncio.run(measure(given.pods, given.watchers, given.seconds)))


if __name__ == "__main__":
    main()
