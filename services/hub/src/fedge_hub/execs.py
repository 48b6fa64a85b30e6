"""Commands in containers: a WebSocket on this side, an answer that goes on on the other.

Frames are those of ``v4.channel.k8s.io``: the first byte is the channel.
"""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from fedge_fabric import UnavailableError, UnroutableError, kinds
from fedge_hub.ports import RequestLink
from fedge_objects import NodeName

ANSWER_SECONDS = 15.0
_OK = 200
_YES = frozenset({"1", "true"})
_NO_OUTPUT = b"\1"
_ENDED = b"\3"


class ContainerExec:
    """Serves the commands of all nodes."""

    def __init__(self, requests: RequestLink) -> None:
        self._requests = requests

    async def serve(self, socket: WebSocket) -> None:
        """Pass frames on until the command has ended or nobody watches any more."""
        node = NodeName(socket.path_params["node"])
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
            if await _open(socket, node, pieces):
                opened.set()
                await _pass_on(socket, node, pieces)


async def _open(socket: WebSocket, node: NodeName, pieces: AsyncGenerator[Any, None]) -> bool:
    """Wait until the command runs and accept the socket, or refuse it; return which.

    A refusal says whether the command may have run.
    """
    outcome = "the command was not begun"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            first = await anext(pieces)
            if first.get("ready"):
                outcome = "whether the command ran is not known"
                first = await anext(pieces)
    except (UnroutableError, UnavailableError) as exc:
        await _deny(socket, 503, f"{exc}; {outcome}")
    except TimeoutError:
        silent = f"node {node!r} did not answer within {ANSWER_SECONDS:.0f} s"
        await _deny(socket, 504, f"{silent}; {outcome}")
    else:
        if first["status"] == _OK:
            await socket.accept()
            return True
        await _deny(socket, int(first["status"]), str(first["body"]).strip())
    return False


async def _pass_on(socket: WebSocket, node: NodeName, pieces: AsyncGenerator[Any, None]) -> None:
    """Pass on what the command says; how it ended is always said, be it that nobody knows."""
    failure = f"node {node!r} lost sight of the command"
    has_ended = False
    try:
        try:
            async for piece in pieces:
                if piece["status"] != _OK:
                    failure = str(piece["body"]).strip()
                if "frame" in piece:
                    frame = base64.b64decode(piece["frame"])
                    has_ended = has_ended or frame[:1] == _ENDED
                    await socket.send_bytes(frame)
                elif not (has_ended or piece["last"]):
                    # the node is there; does somebody still watch?
                    await socket.send_bytes(_NO_OUTPUT)
        except TimeoutError:
            failure = f"node {node!r} fell silent; whether the command goes on is not known"
        except (UnroutableError, UnavailableError) as exc:
            failure = f"{exc}; whether the command goes on is not known"
        if not has_ended:
            await socket.send_bytes(_ENDED + _failure(failure))
        await socket.close()
    except WebSocketDisconnect:
        return  # nobody watches any more


def _failure(text: str) -> bytes:
    """Return how a command ended of which it is not known, as a ``Status``."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": "InternalError",
        "message": text,
        "code": 500,
    }
    return json.dumps(status).encode()


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
