"""Containers' logs at the edge, from edged beside us: the way that ``fedge logs`` takes there.

edged's socket is one of frames: four bytes of length, a channel's number, its content
(``fedge_edged.local_socket``).
"""

import asyncio
import json
import struct
from pathlib import Path
from typing import Final

import structlog

from fedge_apiserver.errors import ApiError
from fedge_apiserver.http import Request

log = structlog.stdlib.get_logger("fedge.meta")

_LENGTH: Final = struct.Struct("!I")
_OUTPUT, _STATUS = 1, 3
_PARAMETERS: Final = (
    "follow",
    "tailLines",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "limitBytes",
)


class NodeLogs:
    """Asks edged for logs."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def stream(self, request: Request, namespace: str, pod: str) -> None:
        """Answer with a container's log.

        Raises:
            ApiError: there is no such log, or edged does not answer.
        """
        asked = {
            "do": "logs",
            "namespace": namespace,
            "pod": pod,
            "container": request.query.get("container", ""),
            "options": {name: request.query[name] for name in _PARAMETERS if name in request.query},
        }
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError as exc:
            raise ApiError(
                503, "ServiceUnavailable", f"edged does not answer at {self._socket}: {exc}"
            ) from exc
        copying = asyncio.create_task(_copy(request, reader), name="api log")
        gone = asyncio.create_task(request.until_gone(), name="api log's client")
        try:
            writer.write(json.dumps(asked).encode() + b"\n")
            await asyncio.wait({copying, gone}, return_when=asyncio.FIRST_COMPLETED)
            if copying.done():
                await copying
        finally:
            copying.cancel()
            gone.cancel()
            writer.close()


async def _copy(request: Request, reader: asyncio.StreamReader) -> None:
    is_started = False
    while True:
        try:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            frame = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            break
        if frame[0] == _STATUS:
            status = json.loads(frame[1:])
            if status.get("status") == "Failure" and not is_started:
                raise ApiError(int(status["code"]), "BadRequest", str(status["message"]))
            break
        if not is_started:
            await request.start_stream(b"text/plain")
            is_started = True
        if frame[0] == _OUTPUT:
            await request.send_piece(frame[1:])
    if not is_started:
        await request.start_stream(b"text/plain")
    await request.send_piece(b"", is_last=True)
