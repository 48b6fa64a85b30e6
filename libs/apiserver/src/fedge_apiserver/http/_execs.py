"""Commands in containers: frames between the client and the hub.

https://kubernetes.io/docs/reference/using-api/api-concepts/ (exec): the client speaks
``v5.channel.k8s.io`` or ``v4.channel.k8s.io`` over a WebSocket; the first byte of a frame is its
channel.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

import structlog

from fedge_apiserver.errors import ApiError, bad_request
from fedge_apiserver.http._hub import Hub, refusal
from fedge_apiserver.http._logs import container_of
from fedge_apiserver.http._messages import Receive, Scope, Send
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import PODS
from fedge_apiserver.store import decode

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = structlog.stdlib.get_logger("fedge.apiserver.execs")

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_PARAMETERS: Final = ("command", "stdin", "tty")
_OPEN_SECONDS: Final = 30.0


class Execs:
    """Runs commands through the hub."""

    def __init__(self, registry: Registry, hub: Hub) -> None:
        self._registry = registry
        self._hub = hub

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, *, namespace: str, name: str
    ) -> None:
        """Connect the client to the command.

        Raises:
            ApiError: there is no such pod or container, no way to its node, or no protocol that
                both speak. Nothing has been answered then.
        """
        from websockets.asyncio.client import connect  # noqa: PLC0415 - few servers need it
        from websockets.exceptions import InvalidStatus, WebSocketException  # noqa: PLC0415

        protocol = next((each for each in PROTOCOLS if each in scope["subprotocols"]), None)
        if protocol is None:
            raise bad_request(f"this server speaks {' and '.join(PROTOCOLS)} here")
        url = self._url(scope, namespace, name)
        try:
            async with connect(
                url,
                additional_headers=self._hub.headers,
                max_size=None,
                max_queue=4,
                open_timeout=_OPEN_SECONDS,
                proxy=None,
            ) as hub:
                await receive()  # the client's wish to connect
                await send({"type": "websocket.accept", "subprotocol": protocol})
                await _join(hub, receive, send)
        except InvalidStatus as exc:
            reason = (exc.response.body or b"").decode("utf-8", "replace").strip()
            raise refusal(exc.response.status_code, reason) from exc
        except (OSError, WebSocketException) as exc:
            raise self._hub.unreachable(exc) from exc

    def _url(self, scope: Scope, namespace: str, name: str) -> str:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if not any(key == "command" for key, _ in query):
            raise bad_request("you must specify at least 1 command for the container")
        pod = decode(self._registry.get(PODS, namespace, name).body)
        container = container_of(pod, dict(query).get("container", ""))
        node = pod["spec"].get("nodeName")
        if not node:
            raise bad_request(f"pod {name} does not have a host assigned")
        url = self._hub.url("nodes", node, "exec", namespace, name, container)
        passed = urlencode([(key, value) for key, value in query if key in _PARAMETERS])
        return f"{url.replace('http', 'ws', 1)}?{passed}"


async def _join(hub: "ClientConnection", receive: Receive, send: Send) -> None:
    """Pass frames both ways until either side is done."""
    showing = asyncio.create_task(_show(hub, send), name="exec output")
    typing = asyncio.create_task(_type(hub, receive), name="exec input")
    try:
        await asyncio.wait({showing, typing}, return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            await showing
            with contextlib.suppress(OSError):  # the client is gone
                await send({"type": "websocket.close", "code": 1000})
    finally:
        for task in (showing, typing):
            task.cancel()
        await asyncio.gather(showing, typing, return_exceptions=True)


async def _show(hub: "ClientConnection", send: Send) -> None:
    async for frame in hub:
        try:
            await send({"type": "websocket.send", "bytes": frame})
        except OSError:  # the client is gone, or leaving because it heard how the command ended
            return


async def _type(hub: "ClientConnection", receive: Receive) -> None:
    while True:
        message: dict[str, Any] = await receive()
        if message["type"] == "websocket.disconnect":
            return
        frame = message.get("bytes")
        if frame:
            await hub.send(frame)


async def deny(send: Send, error: ApiError, body: bytes) -> None:
    """Refuse a WebSocket with an answer of HTTP."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": error.code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
