"""Commands in containers: a WebSocket on this side, an answer that goes on on the other.

Frames are those of ``v4.channel.k8s.io``: the first byte is the channel.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from fedge_fabric import UnavailableError, UnroutableError, kinds
from fedge_hub.domain import Nodes
from fedge_hub.ports import RequestLink
from fedge_objects import NodeName

ANSWER_SECONDS = 15.0
_OK = 200
_YES = frozenset({"1", "true"})
_FELL_SILENT = 1011


class ContainerExec:
    """Serves the commands of all nodes."""

    def __init__(self, nodes: Nodes, requests: RequestLink) -> None:
        self._nodes = nodes
        self._requests = requests

    async def serve(self, socket: WebSocket) -> None:
        """Pass frames on until the command has ended or nobody watches any more."""
        node = NodeName(socket.path_params["node"])
        if not await self._nodes.is_present(node):
            await _deny(socket, 503, f"node {node!r} is not connected")
            return
        opened = asyncio.Event()
        pieces = self._requests.ask(
            node,
            kinds.EXEC_ASKED,
            _asked(socket),
            deadline_seconds=ANSWER_SECONDS,
            goes_on=True,
            inputs=_frames(socket, opened),
        )
        async with aclosing(pieces):
            try:
                first = await anext(pieces)
            except (UnroutableError, UnavailableError) as exc:
                await _deny(socket, 503, str(exc))
                return
            except TimeoutError:
                await _deny(socket, 504, f"node {node!r} did not answer in time")
                return
            if first["status"] != _OK:
                await _deny(socket, int(first["status"]), str(first["body"]).strip())
                return
            await socket.accept()
            opened.set()
            try:
                async for piece in pieces:
                    if "frame" in piece:
                        await socket.send_bytes(base64.b64decode(piece["frame"]))
            except TimeoutError:
                await socket.close(_FELL_SILENT, f"node {node} fell silent")
            except WebSocketDisconnect:
                return  # nobody watches any more
            else:
                await socket.close()


def _asked(socket: WebSocket) -> dict[str, object]:
    query = socket.query_params
    return {
        "namespace": socket.path_params["namespace"],
        "pod": socket.path_params["pod"],
        "container": socket.path_params["container"],
        "command": query.getlist("command"),
        "stdin": query.get("stdin") in _YES,
        "tty": query.get("tty") in _YES,
    }


async def _deny(socket: WebSocket, status: int, text: str) -> None:
    await socket.send_denial_response(PlainTextResponse(f"{text}\n", status_code=status))


async def _frames(socket: WebSocket, opened: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """Yield what is typed, once the socket is open and until it is closed."""
    await opened.wait()
    while True:
        try:
            frame = await socket.receive_bytes()
        except WebSocketDisconnect:
            return
        if frame:
            yield frame
