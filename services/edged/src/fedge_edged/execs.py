"""Commands that run in a container while somebody watches, and types.

The runtime serves the command over a WebSocket on the node's loopback address. Frames are passed on
as they are: the first byte is the channel (0 standard input, 1 output, 2 errors, 3 how it ended,
4 the terminal's size).
https://kubernetes.io/docs/reference/using-api/api-concepts/ (exec, attach and port-forward)
"""

import asyncio
import base64
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fedge_cri import ContainerState, RefusedError, Runtime, RuntimeFaultError
from fedge_edged.logs import LogError
from fedge_edged.node_pods import NodePods
from fedge_edged.once import Once
from fedge_edged.streams import Sink, Stream

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

PROTOCOL = "v4.channel.k8s.io"
MOST_FRAME_BYTES = 64 * 1024
HANG_UP_SECONDS = 2.0
CLOSE_CHANNEL = 255
"""In version 5 of the protocol: the channel that the next byte names is closed. Version 4, which
the runtime speaks, cannot say so."""
_INTERRUPT_AND_END = b"\0\x03\x04"
"""Control-C and control-D, on the channel of standard input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecAsked:
    """Which command is to run where."""

    container_id: str
    command: Sequence[str]
    stdin: bool
    tty: bool


class Execs:
    """Runs commands in the node's containers."""

    def __init__(self, runtime: Runtime, pods: NodePods, once: Once) -> None:
        self._runtime = runtime
        self._pods = pods
        self._once = once

    def asked(self, data: Mapping[str, Any]) -> ExecAsked:
        """Return what a request asks for.

        Raises:
            LogError: there is no such pod here, or its container does not run; or there is no
                command.
        """
        namespace, name, container = (str(data[key]) for key in ("namespace", "pod", "container"))
        command = data["command"]
        if not (isinstance(command, list) and command):
            raise LogError(400, "say which command is to run")
        worker = self._pods.find(namespace, name)
        if worker is None or worker.pod is None:
            raise LogError(404, f'pod "{namespace}/{name}" is not on this node')
        newest = worker.observed.newest(container)
        if newest is None or newest.state is not ContainerState.RUNNING:
            raise LogError(400, f'container "{container}" in pod "{name}" does not run')
        return ExecAsked(
            container_id=newest.id,
            command=[str(each) for each in command],
            stdin=bool(data.get("stdin")),
            tty=bool(data.get("tty")),
        )

    async def answer(
        self, request_id: str, asked: ExecAsked, deadline_seconds: float, stream: Stream
    ) -> None:
        """Run the command of a request, which may be delivered twice and late: never a second time.

        See ``Once``.
        """
        work = partial(self.run, asked)
        await self._once.run(request_id, stream, work, deadline_seconds=deadline_seconds)

    async def begun_before(self) -> Mapping[str, float]:
        """Return what was begun by an edged before this one; see ``Once``."""
        return await self._once.begun_before()

    async def run(self, asked: ExecAsked, sink: Sink) -> None:
        """Run a command until it has ended or nobody watches any more."""
        from websockets.asyncio.client import connect  # noqa: PLC0415 - few gateways need it
        from websockets.exceptions import WebSocketException  # noqa: PLC0415
        from websockets.typing import Subprotocol  # noqa: PLC0415

        try:
            url = await self._runtime.exec_url(
                asked.container_id,
                asked.command,
                stdin=asked.stdin,
                stdout=True,
                stderr=not asked.tty,
                tty=asked.tty,
            )
            async with connect(
                url.replace("http", "ws", 1),
                subprotocols=[Subprotocol(PROTOCOL)],
                max_size=None,
                max_queue=4,
                proxy=None,
            ) as socket:
                await sink.send({"body": ""})
                typing = asyncio.create_task(_type(socket, sink), name="exec input")
                try:
                    await _show(socket, sink)
                except BaseException:
                    if asked.tty and asked.stdin:  # nobody watches any more
                        await asyncio.shield(_hang_up(socket))
                    raise
                finally:
                    typing.cancel()
                    await asyncio.gather(typing, return_exceptions=True)
        except (RuntimeFaultError, OSError, WebSocketException) as exc:
            status = 400 if isinstance(exc, RefusedError) else 500
            await sink.send({"status": status, "body": f"{exc}\n"}, last=True)
        else:
            await sink.send({"body": ""}, last=True)


async def _show(socket: "ClientConnection", sink: Sink) -> None:
    async for frame in socket:
        if not isinstance(frame, bytes) or not frame:
            continue
        channel, content = frame[:1], frame[1:]
        for start in range(0, max(1, len(content)), MOST_FRAME_BYTES):
            part = channel + content[start : start + MOST_FRAME_BYTES]
            if len(part) > 1:
                await sink.send({"body": "", "frame": base64.b64encode(part).decode()})


async def _hang_up(socket: "ClientConnection") -> None:
    """Type what ends a command and the shell below it; the runtime has no other way to end them."""
    from websockets.exceptions import ConnectionClosed  # noqa: PLC0415 - few gateways need it

    with contextlib.suppress(ConnectionClosed, TimeoutError):
        async with asyncio.timeout(HANG_UP_SECONDS):
            await socket.send(_INTERRUPT_AND_END)


async def _type(socket: "ClientConnection", sink: Sink) -> None:
    async for frame in sink.inputs():
        if frame and frame[0] != CLOSE_CHANNEL:
            await socket.send(frame)
