"""Logs, commands and upgrades at the node itself, with the cloud away.

A Unix socket that only root may open. A client sends one line of JSON that says what it wants; from
then on both sides send frames: four bytes of length, then a channel's number and its content, as in
``v4.channel.k8s.io`` (0 standard input, 1 output, 2 errors, 3 how it ended, 4 the terminal's size).
"""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from typing_extensions import override

from fedge_edged.execs import Execs
from fedge_edged.log_requests import LogRequests
from fedge_edged.logs import LogError
from fedge_edged.node_pods import NodePods
from fedge_edged.streams import Sink

if TYPE_CHECKING:
    from fedge_edged.node_tasks.at_the_node import AtTheNode

log = structlog.stdlib.get_logger("fedge.edged")

MOST_REQUEST_BYTES = 1024 * 1024
_LENGTH = struct.Struct("!I")
_STDOUT, _STATUS = b"\1", b"\3"


class LocalSocket:
    """Serves whoever is root on the node."""

    def __init__(
        self,
        path: Path,
        *,
        pods: NodePods,
        logs: LogRequests,
        execs: Execs,
        at_the_node: Callable[[], "AtTheNode"],
    ) -> None:
        self._path = path
        self._at_the_node = at_the_node
        self._pods = pods
        self._logs = logs
        self._execs = execs

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve until left."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)  # of an edged that was killed
        server = await asyncio.start_unix_server(self._serve, self._path, limit=MOST_REQUEST_BYTES)
        self._path.chmod(0o600)
        async with server:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sink = _Frames(reader, writer)
        try:
            await self._answer(json.loads(await reader.readline()), sink)
        except LogError as exc:
            await sink.send({"status": exc.code, "body": f"{exc}\n"}, last=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            log.debug("local_client_gone")
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            text = f"this is no request: {type(exc).__name__} {exc}\n"
            await sink.send({"status": 400, "body": text}, last=True)
        finally:
            writer.close()

    async def _answer(self, data: Mapping[str, Any], sink: "_Frames") -> None:
        match data["do"]:
            case "version":
                await self._at_the_node().tell(sink)
                return
            case "upgrade":
                await self._at_the_node().upgrade(data, sink)
                return
        data = {**data, "container": self._container(data)}
        match data["do"]:
            case "logs":
                await self._logs.follow(self._logs.asked(data), sink)
            case "exec":
                await self._execs.run(self._execs.asked(data), sink)
            case other:
                raise LogError(400, f"edged does not {other}")

    def _container(self, data: Mapping[str, Any]) -> str:
        """Return the container that is meant; one that is the only one need not be named."""
        if data.get("container"):
            return str(data["container"])
        worker = self._pods.find(str(data["namespace"]), str(data["pod"]))
        if worker is None or worker.pod is None:
            raise LogError(404, f'pod "{data["namespace"]}/{data["pod"]}" is not on this node')
        names = [each.name for each in worker.pod.spec.containers]
        if len(names) > 1:
            raise LogError(
                400,
                f"a container name must be specified for pod {data['pod']}, choose one of: "
                f"[{' '.join(names)}]",
            )
        return names[0]


class _Frames(Sink):
    """One client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._has_ended = False

    @override
    async def send(self, piece: Mapping[str, Any], *, last: bool = False) -> None:
        """Send a piece; the socket's own buffer holds a fast writer up."""
        status = int(piece.get("status", 200))
        if status != 200:  # noqa: PLR2004 - HTTP OK
            await self._write(_STATUS + _failure(status, str(piece["body"])))
            return
        if "frame" in piece:
            frame = base64.b64decode(piece["frame"])
            self._has_ended = self._has_ended or frame[:1] == _STATUS
            await self._write(frame)
        elif piece.get("body"):
            await self._write(_STDOUT + str(piece["body"]).encode())
        if last and not self._has_ended:
            await self._write(_STATUS + b'{"status": "Success"}')

    @override
    async def inputs(self) -> AsyncIterator[bytes]:
        """Yield what is typed until the client is gone."""
        while True:
            try:
                (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                yield await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return

    async def _write(self, frame: bytes) -> None:
        self._writer.write(_LENGTH.pack(len(frame)) + frame)
        await self._writer.drain()


def _failure(status: int, text: str) -> bytes:
    told = {"status": "Failure", "code": status, "message": text.strip()}
    return json.dumps(told).encode()
